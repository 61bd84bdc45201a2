"""Imagine a long video from a few real frames: rollout.mp4, rollout.gif, sheet.png and tokens.npy in RUN/rollout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from _run import made_already, made_with, script

from worldmodel.checkpoint import write_json
from worldmodel.data.clips import split
from worldmodel.data.store import EpisodeStore
from worldmodel.hub import located
from worldmodel.prior import SamplerConfig
from worldmodel.progress import progress
from worldmodel.rollout import Recording, beginning, dream, film, plan
from worldmodel.video import write_video
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
    temperature: float
    top_k: int
    top_p: float
    guidance: float
    sampler: Literal["auto", "fused", "predictive", "cached", "naive"]
    fps: float
    scale: int
    device: str


@script(RolloutConfig)
def main(config: RolloutConfig) -> None:
    config.world = located(config.world)
    record, video = config.out / "rollout.json", config.out / "rollout.mp4"
    store = EpisodeStore.open(config.episodes)
    made = made_with(config, config.world, store)
    if not (video.is_file() and made_already(record, made)):
        record.unlink(missing_ok=True)  # from here on the files are in between
        imagine(config, store, video)
        write_json(record, {"made_with": made})
    print(f"video: {video}\ncontact sheet: {config.out / 'sheet.png'}\ntokens: {config.out / 'tokens.npy'}")
    if (report := config.run / "report.json").is_file():
        print(f"figures: {report}")
    print(f"logs: tensorboard --logdir {config.run.parent}")


def imagine(config: RolloutConfig, store: EpisodeStore, video: Path) -> None:
    """Dream, and write what there is to see as it comes."""
    world = WorldModel.load(config.world, config.device)
    episode = longest_held_out(store) if config.episode is None else config.episode
    begin = beginning(store, episode, config.start, world.whole(config.context), config.horizon)
    actions = plan(config.actions, world.info, begin.next_actions, config.horizon, config.seed)
    if config.actions != "episode":  # what truly happened went another way
        begin.next_frames = begin.next_frames[:0]
    sampler = SamplerConfig(config.sampler, config.temperature, config.top_k, config.top_p, config.guidance)
    recording = Recording(config.horizon)
    steps = recording.listen(dream(world, begin, actions, sampler, config.seed))
    shots = film(begin, steps, actions, world.info, config.scale)
    shown = progress(recording.watch(shots), "rollout", total=config.horizon, unit="frame")
    write_video(video, shown, config.fps)
    recording.save(config.out, config.fps)


def longest_held_out(store: EpisodeStore) -> int:
    """The held-out episode with most frames: the longest truth to compare with."""
    _, held_out = split(store)
    return max(held_out or store.indices, key=store.length)


if __name__ == "__main__":
    main()
