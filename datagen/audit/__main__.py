"""``python -m datagen.audit DIR [DIR ...] [--output DIR]``: audit sealed folders of samples together."""

from __future__ import annotations

import argparse
from pathlib import Path

from datagen.audit import audit


def main() -> int:
    """Write the audit, print every bar; the exit status is 1 if one does not hold."""
    parser = argparse.ArgumentParser(prog="python -m datagen.audit", description="Audit generated samples.")
    parser.add_argument("folders", nargs="+", type=Path, help="sealed folders of samples, or single shards")
    parser.add_argument("--output", type=Path, help="where audit.json and audit.html go (default: the first folder)")
    arguments = parser.parse_args()
    output = arguments.output or arguments.folders[0]
    report = audit(arguments.folders, output)
    for bar in report["bars"]:
        mark = {True: "pass", False: "FAIL", None: "not tested"}[bar["passed"]]
        print(f"{mark:10s} {bar['task']:4s} {bar['bar']}: {bar['figure']}")
    print(f"written: {output / 'audit.html'}")
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
