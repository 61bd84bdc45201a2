"""Dreams that run freely for a thousand steps: do they stay sharp, varied, moving, like the
data?"""

from collections.abc import Sequence

from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.sections.drift.data import DriftConfig, DriftData, real_steps
from worldmodel.evaluate.sections.drift.frames import dream_images, nearest_real, sharpness_by_step, surprise_by_step
from worldmodel.evaluate.sections.drift.tokens import frozen_and_collapsed, token_divergence, variety
from worldmodel.evaluate.statistics.results import Section
from worldmodel.evaluate.testbed.dream_clips import DreamSettings, WorldProtocol
from worldmodel.evaluate.testbed.dream_trace import trace_dreams

PARTS = (
    sharpness_by_step,
    token_divergence,
    nearest_real,
    surprise_by_step,
    frozen_and_collapsed,
    variety,
    dream_images,
)


def drift(
    world: WorldProtocol,
    store: EpisodeStore,
    tokens: TokenStore,
    train: Sequence[int],
    held_out: Sequence[int],
    config: DriftConfig | None = None,
    dreams: DreamSettings | None = None,
) -> Section:
    """Free-running dreams by step, beside the same numbers of real frames.

    Actions are random, held as those of the data. Sharpness, codes and bits are means over the 10
    steps up to each moment. Intervals draw the episodes of the contexts, each with all its dreams;
    those of real frames and windows draw their episodes.

    - sharpness: mean gradient of the grey image, as a multiple of that of held-out frames.
    - token_divergence: Jensen–Shannon divergence, in bits, between the dreamed codes and those of
      the training episodes; `floor` is that of as many held-out tokens. The target is `over_real` <
      1: in sets of 64 dreams, the mean divergence of late dreams is below the 95th percentile of
      equally large real samples. `over_10`, late over early, has no target: even a perfect world's
      interval is wider than a tenth.
    - nearest_real: PSNR against the most similar of many training frames; `held_out` is that of
      real frames.
    - bits: surprise of a step under the world itself.
    - frozen, collapsed: the share of dreams whose last 30 steps change fewer tokens, or have frames
      of less entropy, than 99.9 % of windows of training episodes; `real` is the share of held-out
      windows. The target is surely fewer than one dream in 64.
    - variety: entropy of a token over the dreams, over that of as many real frames.

    Raises: ValueError if the held-out episodes are too short for the context.
    """
    config, dreams = config or DriftConfig(), dreams or DreamSettings()
    trace = trace_dreams(
        world,
        store,
        held_out,
        dreams=config.dreams,
        context=dreams.context,
        moments=config.moments,
        sampler=dreams.sampler,
        seed=dreams.seed,
    )
    end = real_steps(tokens, [*train, *held_out], world, dreams.context)
    data = DriftData(trace, store, tokens, train, held_out, config, dreams.seed, end)
    section = Section()
    for part in PARTS:
        section.update(part(data))
    if end < config.steps:
        section.notes.append(f"drift: {data.beyond(config.steps)}; later steps are shown, but not judged")
    return section
