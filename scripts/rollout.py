"""Imagine a long video from a few real frames: rollout.mp4, sheet.png and tokens.npy in RUN/rollout."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from _run import made_already, made_with, script
from tqdm import tqdm

from worldmodel.checkpoint import write_json
from worldmodel.data.clips import split
from worldmodel.data.store import EpisodeStore
from worldmodel.prior import SamplerConfig
from worldmodel.rollout import beginning, dream, film, plan
from worldmodel.video import contact_sheet, write_png, write_video
from worldmodel.world import WorldModel

SHEET = 16  # moments on the contact sheet, spread evenly


@dataclass
class RolloutConfig:
    """The keys of configs/rollout.yaml, explained there."""

    run: Path
    world: Path
    out: Path
    actions: str
    horizon: int
    episode: int | None
    start: int
    context: int
    seed: int
    temperature: float
    top_k: int
    top_p: float
    sampler: Literal["cached", "naive"]
    fps: float
    scale: int
    device: str


@script(RolloutConfig)
def main(config: RolloutConfig) -> None:
    record, video = config.out / "rollout.json", config.out / "rollout.mp4"
    made = made_with(config, config.world)
    if not made_already(record, made):
        imagine(config, video)
        write_json(record, {"made_with": made})
    print(f"video: {video}\ncontact sheet: {config.out / 'sheet.png'}\ntokens: {config.out / 'tokens.npy'}")
    print(f"logs: tensorboard --logdir {config.run.parent}")


def imagine(config: RolloutConfig, video: Path) -> None:
    """Dream, and write what there is to see as it comes."""
    world = WorldModel.load(config.world, config.device)
    store = EpisodeStore.open(config.run / "episodes")
    episode = longest_held_out(store) if config.episode is None else config.episode
    begin = beginning(store, episode, config.start, world.whole(config.context), config.horizon)
    actions = plan(config.actions, world.info, begin.next_actions, config.horizon, config.seed)
    if config.actions != "episode":  # what truly happened went another way
        begin.next_frames = begin.next_frames[:0]
    sampler = SamplerConfig(config.sampler, config.temperature, config.top_k, config.top_p)
    steps = dream(world, begin, actions, sampler, config.seed)
    shots = tqdm(film(begin, steps, actions, world.info, config.scale), "rollout", config.horizon, unit="frame")
    moments = set(np.linspace(0, config.horizon - 1, SHEET).round().astype(int).tolist())
    kept, tokens = [], []

    def pictures() -> Iterator[np.ndarray]:
        for n, shot in enumerate(shots):
            tokens.append(shot.tokens)
            if n in moments:
                kept.append(shot)
            yield shot.picture

    write_video(video, pictures(), config.fps)
    rows = [[shot.real for shot in kept], [shot.imagined for shot in kept]]
    titles = [str(1 + n) for n in sorted(moments)]
    write_png(config.out / "sheet.png", contact_sheet(list(np.array(rows)), ["real", "imagined"], SHEET, titles))
    np.save(config.out / "tokens.npy", np.stack(tokens))


def longest_held_out(store: EpisodeStore) -> int:
    """The held-out episode with most frames: the longest truth to compare with."""
    _, held_out = split(store)
    return max(held_out or store.indices, key=store.length)


if __name__ == "__main__":
    main()
