"""run.html: the film, a verdict and a few numbers of a run, in seconds; `worldmodel evaluate` measures all of them."""

import itertools
from collections.abc import Mapping
from html import escape
from pathlib import Path

from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.data.open import open_episodes
from worldmodel.evaluate.output.html import video_figure
from worldmodel.evaluate.page.advice import advice
from worldmodel.evaluate.page.drawing import film_bytes
from worldmodel.evaluate.page.film import Film, choose_episode, film_of_context, film_of_episode
from worldmodel.evaluate.page.layout import advice_box, document, top
from worldmodel.evaluate.page.report_page import CAPTION, env_name, sheet_html
from worldmodel.evaluate.page.results import Results
from worldmodel.evaluate.page.verdict import Answer, answers
from worldmodel.evaluate.report import SECTIONS, EvaluationContext, ReportConfig
from worldmodel.evaluate.sections.rollouts import RolloutsConfig
from worldmodel.evaluate.statistics.results import Section
from worldmodel.io.files import write_atomic
from worldmodel.io.folders import make_folder
from worldmodel.tokenizer import tokenize
from worldmodel.world import WorldInfo, WorldModel

PAGE = "run.html"
FILM_BYTES = 1_200_000
QUICK = ReportConfig(clips=16, near=RolloutsConfig(clips=8, horizon=30, samples=1))
MEASURED = ("Tokenizer", "Prior", "Rewards and ends", "Dreams")  # sections that take seconds


def write_run_page(
    run: str | Path, *, world: str | Path | None = None, episodes: str | Path | None = None, device: str = "cpu"
) -> Path:
    """Write RUN/run.html, a page on the world in RUN/world beside the episodes in RUN/episodes, and return its path.

    Args: world, another folder or name; episodes, another folder or URL. Without episodes, the film is a dream from a
    context that the world contains, and nothing is judged.

    Raises: ValueError if there is no world, or neither episodes nor contexts.
    """
    run = Path(run)
    model = WorldModel.load(run / "world" if world is None else world, device)
    if episodes is not None or (run / "episodes").exists():
        page = page_of_run(model, open_episodes(str(episodes or run / "episodes")), run)
    else:
        open_ = Answer("There are no episodes to compare with, so nothing is judged.", None)
        page = run_page(model.info, film_of_context(model, QUICK), {}, [open_], run)
    path = run / PAGE
    make_folder(run)
    write_atomic(path, page.encode())
    return path


def page_of_run(world: WorldModel, store: EpisodeStore, run: Path) -> str:
    """The page of a world with the episodes that it was trained on."""
    context = EvaluationContext(world, store, tokenize(world.tokenizer, store, run / "tokens"), QUICK)
    film = film_of_episode(world, store, choose_episode(store, context.held_out), QUICK)
    sections = {title: _measured(context, title) for title in MEASURED}
    judged = [each for each in answers(Results.of(sections, intervals=False)).values() if each.measured]
    short = Answer("The held-out episodes are too short to judge anything.", None)
    return run_page(world.info, film, sections, judged or [short], run)


def run_page(info: WorldInfo, film: Film, sections: Mapping[str, Section], found: list[Answer], run: Path) -> str:
    """The page: film and verdict, what to change, a few numbers, and where to go from here."""
    results = Results.of(sections, intervals=False)
    title = f"{env_name(info.env)}: a first look at its world"
    shown = video_figure(film_bytes(film, FILM_BYTES), _caption(film), "film")
    more = advice_box(itertools.chain(*advice(results).values())) + _numbers(info, results)
    body = [f"<h1>{escape(title)}</h1>", top(shown, found, more), sheet_html(film)]
    items = _next_steps(run)
    notes = [note for section in sections.values() for note in section.notes]
    notes += ["Judged by a few held-out clips, without intervals: a first impression."] if sections else []
    lines = "".join(f"<p class=note>{escape(note)}</p>" for note in notes)
    body.append(f"<section>{lines}<ul>{''.join(items)}</ul></section>")
    return document(title, body)


def _next_steps(run: Path) -> list[str]:
    """Where to go from here."""
    at = f"run={escape(str(run))}"
    steps = {f"worldmodel play {at}": "step through the dream in the browser"}
    if (run / "report.html").is_file():
        steps["report.html"] = "beside this page: the same questions, with 95 % intervals"
    steps[f"worldmodel evaluate {at}"] = "measure all of it, on more clips"
    steps["worldmodel make … minutes=30 run=…"] = (
        "a better world, in a run of its own; keys of one part are written as "
        "'overrides.train_prior=[\"clip_latents=12\"]'"
    )
    return [f"<li><code>{command}</code>: {what}</li>" for command, what in steps.items()]


def _measured(context: EvaluationContext, title: str) -> Section:
    """A section of the report; only the reason where the episodes do not suffice for it."""
    try:
        return SECTIONS[title](context)
    except ValueError as error:
        return Section(notes=[f"{title}: not measured: {error}"])


def _caption(film: Film) -> str:
    return CAPTION if film.real is not None else "A dream under random actions. An orange edge marks the given frame."


def _numbers(info: WorldInfo, results: Results) -> str:
    """A few numbers as a list."""
    height, width, _ = info.frame_shape
    rows = {"frames": f"{width}×{height}", "actions": ", ".join(info.action_names) or str(info.action_space or "none")}
    shown = {
        "tokenizer/psnr": ("frames from tokens", "dB"),
        "prior/bits_per_token": ("bits a token", ""),
        "rollout/psnr_gained/copy_last_frame@1": ("dream − still picture, 1 frame ahead", "dB"),
        "rollout/psnr_gained/copy_last_frame@30": ("… 30 frames ahead", "dB"),
    }
    for name, (what, unit) in shown.items():
        if (value := results.value(name)) is not None:
            rows[what] = f"{value:.3g} {unit}".strip()
    cells = (f"<div><dt>{escape(what)}</dt><dd>{escape(text)}</dd></div>" for what, text in rows.items())
    return f"<dl class=numbers>{''.join(cells)}</dl>"
