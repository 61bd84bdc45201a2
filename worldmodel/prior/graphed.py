"""The cached sampler on a GPU, recorded once as a CUDA graph: a frame is one launch instead of thousands."""

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.compiled import packed
from worldmodel.prior.choose import Draw, SamplerConfig
from worldmodel.prior.loops import cached
from worldmodel.prior.pixelcnn import SpatialCore

WARM_UP = 3  # runs before the recording, as torch.cuda.graph asks for
GRAPHS = 8  # recordings that a core keeps, of other batch sizes and settings: each holds memory of its own


def replay(
    core: SpatialCore,
    context: Float[Tensor, "b c y x"],
    actions: Float[Tensor, "b a"],
    noise: Float[Tensor, "b n"],
    config: SamplerConfig,
) -> Draw:
    """`cached`, from the graph of this core, these shapes and settings; recorded when first asked for."""
    graphs: dict[tuple, _Graph] = packed(core, "graphs", dict)
    settings = (config.temperature, config.top_k, config.top_p)
    key = (tuple(context.shape), actions.shape[1], context.dtype, context.device, settings)
    with torch.cuda.device(context.device):
        if key not in graphs:
            if len(graphs) == GRAPHS:
                del graphs[next(iter(graphs))]
            graphs[key] = _Graph(core, *key)
        return graphs[key].replay(context, actions, noise)


class _Graph:
    """A recording with its own inputs and outputs; the inputs are those of the last replay."""

    def __init__(self, core, shape, actions: int, dtype, device, settings: tuple[float, int, float]):
        b, _, rows, columns = shape
        self.inputs = (
            torch.zeros(shape, dtype=dtype, device=device),
            torch.zeros(b, actions, dtype=dtype, device=device),
            torch.zeros(b, rows * columns, dtype=torch.float64, device=device),
        )
        config = SamplerConfig("cached", *settings)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                cached(core, *self.inputs, config)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # other threads may pin memory meanwhile
            self.draw = cached(core, *self.inputs, config)

    def replay(self, *inputs: Tensor) -> Draw:
        """The draw for these inputs; a copy, as the next replay writes over it."""
        for own, new in zip(self.inputs, inputs, strict=True):
            own.copy_(new)
        self.graph.replay()
        return Draw(self.draw.tokens.clone(), self.draw.nats.clone(), self.draw.passes.clone())
