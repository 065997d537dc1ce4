"""Reports: from run folders to one page that opens in any browser, offline, and the same figures as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ipt.common.errors import UserError
from ipt.common.files import write_bytes, write_json
from ipt.evaluation.report.choice import choose
from ipt.evaluation.report.figures import compute
from ipt.evaluation.report.page import render
from ipt.evaluation.report.serve import serve
from ipt.evaluation.settings import QualityConfig, ReportConfig
from ipt.inference.prediction import read_run

PAGE, FIGURES = "report.html", "report.json"


def write_report(
    runs: Sequence[Path], output_dir: Path, gallery: int = 60, seed: int = 0, quality: QualityConfig | None = None
) -> Path:
    """Write ``report.html`` and ``report.json`` of run folders into ``output_dir``; returns the page.

    ``gallery``: how many samples the page shows at most. ``quality``: how imaginations are judged. The first of several runs of
    the same data is what the others are compared with. Raises ``FileNotFoundError`` for a folder that is no run, ``ValueError``
    for no or repeated folders and for runs without a prediction.
    """
    folders = [Path(folder).resolve() for folder in runs]
    if not folders or len(set(folders)) != len(folders):
        raise UserError(f"a report needs run folders, each once, got {', '.join(map(str, runs)) or 'none'}")
    read = [read_run(Path(folder)) for folder in runs]
    if empty := [str(run.folder) for run in read if not run.predictions]:
        raise UserError(f"there are no predictions in {', '.join(empty)}")
    figures, chosen = compute(read, quality or QualityConfig(), seed), choose(read, gallery, seed)
    shown = {"samples": [sample.sample_id for sample in chosen.shown], "of": chosen.total, "seed": seed}
    write_bytes(output_dir / PAGE, render(figures, chosen).encode())
    write_json(output_dir / FIGURES, {**figures.to_json(), "gallery": shown})
    return output_dir / PAGE


def run_report(config: ReportConfig, output_dir: Path, seed: int) -> str:
    """The report of a command line; says where it is. With ``serve``, only once serving is interrupted."""
    page = write_report([Path(run) for run in config.report], output_dir, config.gallery, seed, config.quality)
    if config.serve:
        serve(page, (output_dir / FIGURES,), config.port)
    return f"{page} ({page.stat().st_size / 2**20:.1f} MiB), figures in {output_dir / FIGURES}"
