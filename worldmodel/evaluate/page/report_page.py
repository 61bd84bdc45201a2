"""report.html: the film, the verdict, then the figures by question, with advice where a target is missed."""

from collections.abc import Mapping
from html import escape
from typing import Any

from worldmodel.evaluate.output.html import (
    picture_figure,
    resampled_note,
    section_html,
    target_table,
    targets_line,
    video_figure,
)
from worldmodel.evaluate.page.advice import ACTIONS, LIKELIHOOD, REWARDS, SHARP, TRUST, advice
from worldmodel.evaluate.page.drawing import film_bytes, film_sheet
from worldmodel.evaluate.page.film import Film, choose_episode, film_of_episode
from worldmodel.evaluate.page.layout import advice_box, document, mark, top
from worldmodel.evaluate.page.results import Results
from worldmodel.evaluate.page.verdict import Answer, answers
from worldmodel.evaluate.report import EvaluationContext
from worldmodel.evaluate.statistics.results import Section

FILM_BYTES = 700_000  # of the film: the page has figures too, and is to have about 2 MB in all
CAPTION = "Real above, dreamed below, under the same actions. An orange edge marks the frames that the dream was given."
SECTIONS = {
    SHARP: ("Tokenizer", "Drift"),
    ACTIONS: ("Control", "Other actions", "Actions seen"),
    REWARDS: ("Rewards and ends",),
    TRUST: ("Trust horizon", "Dreams", "Long dreams", "Memory"),
    LIKELIHOOD: ("Prior",),
}


def report_page(context: EvaluationContext, sections: Mapping[str, Section]) -> str:
    """The page of a report, with a film of one held-out episode."""
    episode = choose_episode(context.store, context.held_out)
    film = film_of_episode(context.world, context.store, episode, context.config)
    name = env_name(context.world.info.env)
    return html_page(f"{name}: how good its world is", context.summary(), sections, film)


def env_name(env: Mapping[str, Any]) -> str:
    """The name of an environment as people know it: its id, scenario, game or level."""
    names = (env.get(key) for key in ("id", "scenario", "game", "level", "name"))
    return str(next(filter(None, names), "This environment")).rpartition(":")[2]


def html_page(title: str, lead: str, sections: Mapping[str, Section], film: Film | None = None) -> str:
    """The page. title and lead: plain text; the lead says how was measured."""
    results = Results.of(sections)
    found, hints = answers(results), advice(results)
    body = [f"<h1>{escape(title)}</h1>"]
    shown = "" if film is None else video_figure(film_bytes(film, FILM_BYTES), CAPTION, "film")
    body.append(top(shown, found.values(), targets_line(sections.values())))
    body.append("" if film is None else sheet_html(film))
    for question, names in SECTIONS.items():
        own = {name: sections[name] for name in names if name in sections}
        body.append(_question(question, found[question], hints.get(question, []), own))
    rest = {name: section for name, section in sections.items() if name not in sum(SECTIONS.values(), ())}
    body += [section_html(name, section) for name, section in rest.items()]
    body.append(f"<section><h2>How this was measured</h2><p class=lead>{escape(lead)}</p>{resampled_note(sections)}")
    return document(title, [*body, "</section>"])


def sheet_html(film: Film) -> str:
    """Moments of the film as one image, folded."""
    image = picture_figure(film_sheet(film), "moments of the film; given frames have an orange edge")
    return f"<details><summary>The film as a contact sheet</summary>{image}</details>"


def _question(question: str, answer: Answer, hints: list[str], sections: Mapping[str, Section]) -> str:
    """A question, its answer, what to change, and the figures."""
    shown = "".join(section_html(name, section) for name, section in sections.items())
    table = target_table(sections.values())
    head = f"<h2>{mark(answer)}{escape(question)}</h2><p>{escape(answer.sentence)}</p>"
    return f"<section>{head}{advice_box(hints)}{table}{shown}</section>"
