"""What a run tells: one JSON line per step, the same to other trackers, and curves.

MFU is the share of the hardware's peak that goes into necessary arithmetic: ``3 x forward FLOPs / (seconds x peak)``, where the
forward pass counts the linear layers at the tokens that use them, and attention at the pairs that attend
(`ipt.model.flops`); recomputation does not count. ``mfu_bagel`` is the definition behind BAGEL's published figures, which charges
embeddings and language head to every token, and attention to every pair of a sample: ``(6 N T + 12 L H d sum(n^2)) / (seconds x
peak)``, N the parameters that one token passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ipt.common.files import write_bytes
from ipt.common.registry import Registry
from ipt.model.config import ModelConfig
from ipt.model.flops import expert_weights, forward_flops
from ipt.sequence.batch import PackedBatch
from ipt.sequence.spans import Expert, SpanTable
from ipt.training.records import StepRecord, line, read_records, scalars

#: Published dense bfloat16 peaks in TFLOP/s, by a word of the device's name.
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "4090": 165.0}
CURVES = ("loss", "ce", "flow", "gradient_norm", "learning_rate", "tokens_per_second")


class Tracker(Protocol):
    """Where records go."""

    def log(self, record: StepRecord) -> None: ...

    def close(self) -> None: ...


trackers: Registry[type] = Registry("tracker")


@trackers.register("jsonl")
class JsonLines:
    """``metrics.jsonl``: a line per step. Lines of ``step`` and later, of a run that is continued before them, are dropped."""

    def __init__(self, folder: Path, step: int = 0, config: Mapping[str, Any] | None = None) -> None:
        self.path = folder / "metrics.jsonl"
        kept = [record for record in read_records(self.path) if record["step"] < step]
        write_bytes(self.path, "".join(line(record) for record in kept).encode())
        self._stream = self.path.open("a")

    def log(self, record: StepRecord) -> None:
        self._stream.write(line(asdict(record)))
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


@trackers.register("tensorboard")
class TensorBoard:
    """Scalars in ``tensorboard/``; needs the extra ``tensorboard``."""

    def __init__(self, folder: Path, step: int = 0, config: Mapping[str, Any] | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                f"tracker=tensorboard needs tensorboard: pip install '.[tensorboard]' ({error})"
            ) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def log(self, record: StepRecord) -> None:
        for name, value in scalars(record).items():
            self._writer.add_scalar(name, value, record.step)

    def close(self) -> None:
        self._writer.close()


@trackers.register("wandb")
class WeightsAndBiases:
    """A wandb run that continues under the name of the run's folder; needs the extra ``wandb``."""

    def __init__(self, folder: Path, step: int = 0, config: Mapping[str, Any] | None = None) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ValueError(f"tracker=wandb needs wandb: pip install '.[wandb]' ({error})") from error
        name = folder.name
        self._run = wandb.init(dir=str(folder), name=name, id=name, resume="allow", config=dict(config or {}))

    def log(self, record: StepRecord) -> None:
        self._run.log(scalars(record), step=record.step)

    def close(self) -> None:
        self._run.finish()


def token_kinds(spans: SpanTable) -> dict[str, int]:
    """Tokens of a pack by kind, and the trained ones."""
    bodies = spans.is_body
    generation = spans.expert[spans.span_of] == Expert.GENERATION
    noised = len(spans.noised_positions)
    return {
        "all": spans.num_tokens,
        "text": int((~bodies).sum()),
        "vit": int((bodies & ~generation).sum()),
        "latent": int((bodies & generation).sum()) - noised,
        "noised": noised,
        "trained_text": len(spans.ce_positions),
        "trained_latent": int(spans.is_flow_trained.sum()),
    }


def step_flops(config: ModelConfig, batches: Iterable[PackedBatch]) -> tuple[float, float]:
    """Training operations of packs: those that are necessary, and those that BAGEL's formula counts."""
    d = config.decoder
    per_token = expert_weights(config) + 2 * d.vocab * d.hidden
    necessary = counted = 0.0
    for batch in batches:
        necessary += forward_flops(config, batch.spans, batch.patch_grids).training
        pairs = int(np.square(batch.spans.sample_lengths).sum())
        counted += 6 * per_token * batch.spans.num_tokens + 12 * d.layers * d.heads * d.head_dim * pairs
    return necessary, counted


def peak_flops(device_name: str, given_tflops: float | None) -> float | None:
    """Operations per second of one device: as given, else as published, else unknown."""
    if given_tflops is not None:
        return given_tflops * 1e12
    return next((tflops * 1e12 for word, tflops in PEAK_TFLOPS.items() if word in device_name), None)


def draw_curves(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Losses, gradient norm, learning rate and speed over the steps, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    for number, name in enumerate(CURVES, start=1):
        axes = figure.add_subplot(2, 3, number)
        axes.plot(
            [r["step"] for r in records], [math.nan if r[name] is None else r[name] for r in records], linewidth=1
        )
        axes.set(title=name.replace("_", " "), xlabel="step")
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    FigureCanvasAgg(figure).print_png(str(partial))
    partial.replace(path)
