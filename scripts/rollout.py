"""Imagine a long video after a few real frames: rollout.mp4, rollout.gif, sheet.png and tokens.npy in RUN/rollout."""

from _run import is_up_to_date, provenance, script

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worldmodel.data.clips.split import train_validation_split
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.data.open import open_episodes
from worldmodel.dream.rollout import Beginning, Recording, beginning, dream, film, plan, stored_beginning
from worldmodel.io.hub.names import world_folder
from worldmodel.io.model_folder import write_checked_json
from worldmodel.io.progress import progress
from worldmodel.io.video import write_video
from worldmodel.prior import SamplerConfig
from worldmodel.world import WorldModel


@dataclass
class RolloutConfig:
    """The keys of configs/rollout.yaml, explained there."""

    run: Path
    episodes: str
    world: Path
    out: Path
    actions: str | int | tuple[str | int, ...]
    horizon: int
    episode: int | None
    start: int
    context: int
    seed: int
    temperature: float | None
    top_k: int
    top_p: float
    sampler: Literal["auto", "compiled", "predictive", "cached", "naive"]
    fps: float
    scale: int
    device: str


@script(RolloutConfig)
def main(config: RolloutConfig) -> None:
    config.world = world_folder(config.world)
    record, video = config.out / "rollout.json", config.out / "rollout.mp4"
    store = real_episodes(config)
    made = provenance(config, config.world, store)
    if not (video.is_file() and is_up_to_date(record, made)):
        record.unlink(missing_ok=True)  # from here on the files are in between
        imagine(config, store, video)
        write_checked_json(record, {"made_with": made})
    print(f"video: {video}\ncontact sheet: {config.out / 'sheet.png'}\ntokens: {config.out / 'tokens.npy'}")
    if (report := config.run / "report.json").is_file():
        print(f"figures: {report}")
    print(f"logs: tensorboard --logdir {config.run.parent}")


def real_episodes(config: RolloutConfig) -> EpisodeStore | None:
    """Those that give the real frames; None where the run has none, as when a world came without."""
    own = config.run / "episodes"
    return None if Path(config.episodes) == own and not own.exists() else open_episodes(config.episodes)


def imagine(config: RolloutConfig, store: EpisodeStore | None, video: Path) -> None:
    """Dream, and write what there is to see as it comes."""
    world = WorldModel.load(config.world, config.device)
    begin = (
        stored_beginning(world, config.episode, config.seed) if store is None else real_beginning(config, world, store)
    )
    actions = plan(config.actions, world.info, begin.next_actions, config.horizon, config.seed)
    if config.actions != "episode":  # what truly happened went another way
        begin.next_frames = begin.next_frames[:0]
    sampler = SamplerConfig(config.sampler, config.temperature, config.top_k, config.top_p)
    recording = Recording(config.horizon)
    steps = recording.listen(dream(world, begin.state, actions, sampler))
    shots = film(begin, steps, actions, world.info, config.scale)
    shown = progress(recording.watch(shots), "rollout", total=config.horizon, unit="frame")
    write_video(video, shown, config.fps)
    recording.save(config.out, config.fps)


def real_beginning(config: RolloutConfig, world: WorldModel, store: EpisodeStore) -> Beginning:
    """In the episode asked for, or the longest that was held out."""
    episode = longest_held_out(store) if config.episode is None else config.episode
    how = {"start": config.start, "context": config.context, "horizon": config.horizon, "seed": config.seed}
    return beginning(world, store, episode, **how)


def longest_held_out(store: EpisodeStore) -> int:
    """The held-out episode with most frames: the longest truth to compare with."""
    _, held_out = train_validation_split(store)
    return max(held_out or store.indices, key=store.length)


if __name__ == "__main__":
    main()
