"""``python -m datagen.audit folders=DIR[,DIR...]``: audit sealed folders of samples together."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from datagen.audit import audit
from ipt.common import cli


@dataclass(frozen=True)
class AuditConfig:
    """Audit sealed folders of samples (or single shards; several with commas) together: audit.json and audit.html.

    They go to output, by default the first folder. The exit status is 1 if a bar does not hold.
    """

    folders: str
    output: str = ""
    seed: int = 0


def main(config: AuditConfig) -> None:
    """Write the audit and print every bar."""
    folders = [Path(folder) for folder in config.folders.split(",")]
    output = Path(config.output) if config.output else folders[0]
    report = audit(folders, output, seed=config.seed)
    for bar in report["bars"]:
        mark = {True: "pass", False: "FAIL", None: "not tested"}[bar["passed"]]
        print(f"{mark:10} {bar['task']:4} {bar['bar']}: {bar['figure']}")
    print(f"written: {output / 'audit.html'}")
    if not report["passed"]:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(AuditConfig, main)
