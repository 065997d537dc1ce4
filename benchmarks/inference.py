"""``python -m benchmarks.inference``: answers and imagined images per second, against a straightforward loop, in one run.

The loop answers one question at a time, as the published code does: it writes on a deep copy of the cache, feeds the text that it
wrote once more as a segment, keeps a cache per guidance branch and passes each through the model by itself. The session does
the same work in batches: equal prompts, tokens, steps and branches, random weights, CPU seconds of one thread.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from ipt.common import cli


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure inference on one CPU thread.

    presets: of the model; batches: rows at a time; loop: questions that the straightforward loop answers.
    """

    presets: tuple[str, ...] = ("tiny", "small")
    batches: tuple[int, ...] = (1, 8, 32)
    loop: int = 2


def main(config: BenchmarkConfig) -> None:
    import torch  # takes seconds to import

    from benchmarks.answering import SIZES, WRITTEN, Bench, per_second

    torch.set_num_threads(1)
    print(f"{platform.machine()}, 1 thread, torch {torch.__version__}, Python {platform.python_version()}")
    for preset in config.presets:
        bench = Bench(preset)
        _, _, side, points = SIZES[preset]
        for draw, what in (
            (False, "answers"),
            (True, f"imagined images of {side} x {side} tokens, {points - 1} steps"),
        ):
            plain = per_second(bench.loop, [bench.sample(n) for n in range(config.loop)], draw)
            print(f"\n{preset}: {what}, then {WRITTEN} tokens each\n| | per CPU-second | ratio |\n|---|---|---|")
            print(f"| straightforward loop | {plain:.2f} | 1 |", flush=True)
            for batch in config.batches:
                rate = per_second(bench.batched, [bench.sample(n) for n in range(batch)], draw)
                print(f"| session, batch {batch} | {rate:.2f} | {rate / plain:.1f} |", flush=True)


if __name__ == "__main__":
    cli.run(BenchmarkConfig, main)
