"""Look at a few real frames, then imagine a long video purely in latent space.

The video (real frames above imagined ones), a contact sheet and the tokens go to OUT: rollout.mp4, rollout.gif,
sheet.png and tokens.npy.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worldmodel.cli.command import WorldConfig, command
from worldmodel.cli.models import check_device, is_up_to_date, provenance
from worldmodel.data.clips.split import train_validation_split
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.data.open import open_episodes
from worldmodel.dream.rollout import (
    Recording,
    RolloutStart,
    action_sequence,
    dream,
    render_frames,
    start_from_context,
    start_in_episode,
)
from worldmodel.io.config import LARGEST, POSITIVE, check_range
from worldmodel.io.hub.names import world_folder
from worldmodel.io.json_files import write_checked_json
from worldmodel.io.progress import progress
from worldmodel.io.video import write_video
from worldmodel.prior import SamplerConfig
from worldmodel.world import WorldModel


@dataclass
class RolloutConfig(WorldConfig):
    """Settings of `worldmodel rollout`."""

    episodes: str = "${run}/episodes"
    """Folder or URL of the episodes with the real frames. If RUN/episodes does not exist, the dream starts from a
    context that the world contains, and no real frames are shown."""
    out: Path = Path("${run}/rollout")
    """Folder of the results."""
    actions: str | int | tuple[str | int, ...] = "episode"
    """episode (the real actions, then held random ones), random, the name or number of an action, or a list of these
    to repeat: actions=[forward,turn_left]."""
    horizon: int = 300
    """Frames to imagine."""
    episode: int | None = None
    """Which episode to start in (null: the longest that was held out); without episodes, which start context of the
    world (null: chosen by the seed)."""
    start: int = 0
    """Index of the first given frame within the episode."""
    context: int = 6
    """How many real frames are given."""
    seed: int = 0
    """The dream is a function of the seed."""
    temperature: float | None = None
    """Sampling temperature; below 1, likelier tokens (null: the world's own)."""
    top_k: int = 0
    """Draw only from the k likeliest tokens (0: from all)."""
    top_p: float = 1.0
    """Draw only from the likeliest tokens that together have this probability (1: from all)."""
    sampler: Literal["auto", "compiled", "predictive", "cached", "naive"] = "auto"
    """Which sampler draws the tokens. All draw the same ones; auto is the fastest."""
    fps: float = 12
    """Frames per second of the video."""
    scale: int = 3
    """Pixels of the video per pixel of a frame, per side."""
    device: str = "cpu"
    """cpu or cuda."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "horizon", "context", "scale")
        check_range(self, 0, LARGEST, "episode", "start", "seed")
        check_range(self, POSITIVE, 1000, "fps")
        self.sampling()
        check_device(self)

    def sampling(self) -> SamplerConfig:
        """How tokens are drawn. Raises: ValueError for a setting out of range."""
        return SamplerConfig(self.sampler, self.temperature, self.top_k, self.top_p)


@command(RolloutConfig)
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
    """The episodes with the real frames; None if the run has none, as for a world that was downloaded."""
    own = config.run / "episodes"
    return None if Path(config.episodes) == own and not own.exists() else open_episodes(config.episodes)


def imagine(config: RolloutConfig, store: EpisodeStore | None, video: Path) -> None:
    """Dream, and write the video while it is dreamed."""
    world = WorldModel.load(config.world, config.device)
    start = (
        start_from_context(world, config.episode, config.seed) if store is None else real_start(config, world, store)
    )
    actions = action_sequence(config.actions, world.info, start.next_actions, config.horizon, config.seed)
    if config.actions != "episode":  # the real frames followed other actions
        start.next_frames = start.next_frames[:0]
    recording = Recording(config.horizon, start.given)
    steps = recording.record_steps(dream(world, start.state, actions, config.sampling()))
    rendered = render_frames(start, steps, actions, world.info, config.scale)
    shown = progress(recording.record_frames(rendered), "rollout", total=config.horizon, unit="frame")
    write_video(video, iter(shown), config.fps)
    recording.save(config.out, config.fps)


def real_start(config: RolloutConfig, world: WorldModel, store: EpisodeStore) -> RolloutStart:
    """The start in `config.episode`, or in the longest held-out episode."""
    episode = longest_held_out(store) if config.episode is None else config.episode
    how = {"start": config.start, "context": config.context, "horizon": config.horizon, "seed": config.seed}
    return start_in_episode(world, store, episode, **how)


def longest_held_out(store: EpisodeStore) -> int:
    """The held-out episode with most frames, for the longest comparison."""
    _, held_out = train_validation_split(store)
    return max(held_out or store.indices, key=store.length)
