"""Settings of a report, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from ipt.common.errors import UserError


@dataclass(frozen=True)
class QualityConfig:
    """``limit``: imaginations judged per task and run, drawn by seed; 0 judges none. ``probe``: whether what they show is read.
    ``probe_data``: a dataset to fit the probe on, instead of the other scenes of the run's data, of which ``probe_limit`` samples
    per task are used. ``lpips``: a folder with the weights of LPIPS (`ipt.evaluation.quality.lpips`). ``shifted``: the same
    dataset's views from shifted cameras (``python -m datagen.shifted``), among which an imagined view finds its place."""

    limit: int = 500
    probe: bool = True
    probe_data: str | None = None
    probe_limit: int = 4000
    lpips: str | None = None
    shifted: str | None = None

    def __post_init__(self) -> None:
        if self.limit < 0 or self.probe_limit < 1:
            raise UserError("quality.limit must be at least 0 and quality.probe_limit at least 1")


@dataclass(frozen=True)
class ReportConfig:
    """``report``: run folders; the others are compared with the first. ``gallery``: how many samples the page shows at most.
    ``serve``: show the page at http://127.0.0.1:``port`` until interrupted (0: a free port)."""

    report: tuple[str, ...] = ()
    gallery: int = 60
    serve: bool = False
    port: int = 0
    quality: QualityConfig = field(default_factory=QualityConfig)

    def __post_init__(self) -> None:
        if self.gallery < 0:
            raise UserError(f"gallery must be 0 or more samples, got {self.gallery}")
        if not 0 <= self.port < 2**16:
            raise UserError(f"port must be from 0 to {2**16 - 1}, got {self.port}")
