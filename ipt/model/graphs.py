"""Steps of inference captured once and replayed, with no interpreter between their kernels.

On CUDA a step becomes a graph of its kernels, which is launched at once: a token of a large model takes as long as reading its
weights, not as launching a thousand kernels. On a CPU, which has no such graphs, the step's tensor operations are traced once and
run from there: what a graph would freeze is frozen, too, so that tests see what must not be.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[..., tuple[Tensor, ...]]
#: Calls before a capture: kernels choose their workspaces in them.
WARM_UPS = 2


class Captured:
    """``step`` for inputs of the shapes, dtypes and devices of ``inputs``. Whatever else it reads or writes is the memory that it
    had here, at every call. It is called here, too, at most `WARM_UPS` times, so that to repeat it must change nothing."""

    @torch.no_grad()
    def __init__(self, step: Step, *inputs: Tensor) -> None:
        self._inputs = tuple(given.clone() for given in inputs)
        self._graph: torch.cuda.CUDAGraph | None = None
        if inputs[0].is_cuda:
            self._capture(step)
        else:
            from torch.fx.experimental.proxy_tensor import make_fx  # a second that others save

            self._traced = make_fx(lambda *given: step(*given))(*self._inputs)

    def _capture(self, step: Step) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                step(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = step(*self._inputs)

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the step, the caller's own."""
        if self._graph is None:
            traced: tuple[Tensor, ...] = self._traced(*inputs)
            return traced
        for held, given in zip(self._inputs, inputs, strict=True):
            held.copy_(given)
        self._graph.replay()
        return tuple(output.clone() for output in self._outputs)
