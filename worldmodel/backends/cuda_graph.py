"""The cached sampler on a GPU, recorded once as a CUDA graph: a frame is one launch instead of thousands."""

import torch

from worldmodel.backends.cpu.packed_weights import packed
from worldmodel.prior.categorical import Draw, Given, SamplerConfig
from worldmodel.prior.pixelcnn import SpatialCore
from worldmodel.prior.sampling_loops import cached

WARM_UP = 3  # runs before the recording, as torch.cuda.graph asks for
GRAPHS = 8  # recordings that a core keeps, of other batch sizes and settings: each holds memory of its own


def replay(core: SpatialCore, given: Given, config: SamplerConfig) -> Draw:
    """`cached`, from the graph of this core, these shapes and settings; recorded when first asked for."""
    graphs: dict[tuple, _Graph] = packed(core, "graphs", dict)
    settings = (config.divisor, config.top_k, config.top_p, config.guidance)
    key = (tuple(given.context.shape), given.actions.shape[2], given.context.dtype, given.context.device, settings)
    with torch.cuda.device(given.context.device):
        if key not in graphs:
            if len(graphs) == GRAPHS:
                del graphs[next(iter(graphs))]
            graphs[key] = _Graph(core, *key)
        return graphs[key].replay(given)


class _Graph:
    """A recording with its own inputs and outputs; the inputs are those of the last replay."""

    def __init__(self, core, shape, actions: int, dtype, device, settings: tuple[float, int, float, float]):
        r, b, _, rows, columns = shape
        self.given = Given(
            torch.zeros(shape, dtype=dtype, device=device),
            torch.zeros(r, b, actions, dtype=dtype, device=device),
            torch.zeros(b, rows * columns, dtype=torch.float64, device=device),
            torch.zeros(b, rows, columns, dtype=torch.long, device=device),
        )
        config = SamplerConfig("cached", *settings)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                cached(core, self.given, config)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # other threads may pin memory meanwhile
            self.draw = cached(core, self.given, config)

    def replay(self, given: Given) -> Draw:
        """The draw for these inputs; a copy, as the next replay writes over it."""
        for name in ("context", "actions", "noise"):
            getattr(self.given, name).copy_(getattr(given, name))
        self.graph.replay()
        return Draw(self.draw.tokens.clone(), self.draw.nats.clone(), self.draw.passes.clone())
