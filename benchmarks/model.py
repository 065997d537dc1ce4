"""``python -m benchmarks.model``: design decisions of the model, each as the ratio of things measured in one run.

CPU seconds of one thread, so that other work on the machine does not matter.

tiles: BlockMask from span tiles, the dense mask, and ``create_block_mask``. routing: expert slices, and an index per expert
around every operation. guidance: three branches in one forward, and three forwards. decoding: KV cache, and the whole
sequence for every token.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ipt.common import cli
from ipt.common.registry import unknown_name


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure design decisions of the model on one CPU thread.

    only: tiles, routing, guidance or decoding (all by default); tokens: length of the pack whose mask is built.
    """

    only: str = ""
    tokens: int = 24576


def main(config: BenchmarkConfig) -> None:
    import torch  # takes seconds to import

    from benchmarks.decisions import decoding, guidance, routing, tiles

    torch.set_num_threads(1)
    runs: dict[str, list[Callable[[], None]]] = {
        "tiles": [partial(tiles, config.tokens)],
        "routing": [partial(routing, "tiny", 4, 32), partial(routing, "small", 16, 1)],
        "guidance": [
            partial(guidance, "tiny", 4, 1, 8),
            partial(guidance, "tiny", 4, 8, 8),
            partial(guidance, "small", 8, 1, 2),
        ],
        "decoding": [
            partial(decoding, "tiny", 1, 64),
            partial(decoding, "tiny", 8, 64),
            partial(decoding, "small", 1, 16),
        ],
    }
    if config.only and config.only not in runs:
        raise ValueError(unknown_name("benchmark", config.only, runs))
    print(f"{platform.machine()}, 1 thread, torch {torch.__version__}, Python {platform.python_version()}")
    for name, parts in runs.items():
        for part in parts if config.only in ("", name) else []:
            part()


if __name__ == "__main__":
    cli.run(BenchmarkConfig, main)
