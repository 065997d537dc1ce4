"""The audit of generated samples: balance, give-aways, blind baselines, leaks, duplicates, recomputed answers.

Each bar is a statement that holds or not; ``audit.json`` and ``audit.html`` say which, with every figure behind it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from datagen.audit.balance import (
    elimination,
    fact_counts,
    letter_shares,
    near_duplicates,
    option_priors,
    scenes_in_two_splits,
)
from datagen.audit.baselines import BASELINES, evaluate, project
from datagen.audit.items import Item, Verify, by_task, to_item
from datagen.audit.page import render_audit
from ipt.common.files import write_bytes, write_json
from ipt.common.seeding import generator
from ipt.samples.store import SampleReader

LETTER_POINTS = 2.0


def audit(folders: Sequence[Path], output: Path, verify: Verify | None = None, seed: int = 0) -> dict[str, Any]:
    """Audit sealed folders (or single shards) together, write ``audit.json`` and ``audit.html`` to ``output``.

    ``verify`` recomputes the answer of a sample from its stored ground truth and returns None if it agrees, else what is
    wrong. Returns the content of ``audit.json``; ``passed`` is true if every bar that could be tested holds.
    """
    items = load_items(folders, verify)
    report = audit_items(items, seed)
    report["folders"] = [folder.name for folder in folders]
    write_json(output / "audit.json", report)
    write_bytes(output / "audit.html", render_audit(report).encode())
    return report


def load_items(folders: Sequence[Path], verify: Verify | None) -> list[Item]:
    """Items of all folders; ``ValueError`` where there are none or where an id occurs twice."""
    readers = [SampleReader(folder) for folder in folders]
    total = sum(map(len, readers))
    samples = (sample for reader in readers for sample in reader)
    shown = track(samples, "reading samples", total, disable=not sys.stderr.isatty(), transient=True)
    items = {item.id: item for item in (to_item(sample, verify) for sample in shown)}
    if len(items) != total or not items:
        raise ValueError(f"{total} samples with {len(items)} different ids in {', '.join(map(str, folders))}")
    return list(items.values())


def audit_items(items: Sequence[Item], seed: int = 0) -> dict[str, Any]:
    """The report as JSON values; see :func:`audit`."""
    tasks = {task: audit_task(group, seed) for task, group in sorted(by_task(items).items())}
    verdicts = [(item.id, item.verdict) for item in items if item.verdict is not None]
    wrong = [f"{name}: {verdict}" for name, verdict in verdicts if verdict != "agrees"]
    report: dict[str, Any] = {
        "samples": len(items),
        "tasks": tasks,
        "scenes_in_two_splits": scenes_in_two_splits(items),
        "near_duplicates": near_duplicates(items),
        "recomputed": {"checked": len(verdicts), "wrong": len(wrong), "examples": wrong[:20]},
    }
    report["bars"] = bars(report)
    report["passed"] = all(bar["passed"] is not False for bar in report["bars"])
    return report


def audit_task(items: Sequence[Item], seed: int) -> dict[str, Any]:
    chance = sum(item.chance for item in items) / len(items)
    scenes = {item.scene for item in items}
    report: dict[str, Any] = {
        "samples": len(items),
        "scenes": len(scenes),
        "chance": chance,
        "letters": letter_shares(items),
        "facts": fact_counts(items),
        "options": option_priors(items),
        "elimination": elimination(items, generator(seed, "audit", "elimination")),
    }
    projections = project(items)
    report["baselines"] = {}
    for baseline in BASELINES:
        excess = evaluate(baseline, items, projections, seed)
        report["baselines"][baseline.name] = {
            "shows": baseline.shows,
            "bar": baseline.bar,
            "includes_chance": excess.includes(0),
            **excess.shifted(chance).to_json(),
        }
    return report


def bars(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Every bar with its verdict: True, False, or None where it could not be tested."""
    rows: list[tuple[str, str, bool | None, str]] = []
    for task, part in report["tasks"].items():
        off = part["letters"]["deviation"]
        rows.append(
            (task, f"letters within {LETTER_POINTS:g} points of uniform", off <= LETTER_POINTS, f"{off:.2f} points")
        )
        for name, row in part["baselines"].items():
            if row["bar"]:
                figure = f"{row['value']:.1%} [{row['low']:.1%}, {row['high']:.1%}], chance {part['chance']:.1%}"
                rows.append((task, f"interval of {name} includes chance", row["includes_chance"], figure))
        struck = part["elimination"]
        figure = f"{struck['guess_rate']:.2%}, by chance up to {struck['null_high']:.2%}"
        holds = struck["guess_rate"] <= struck["null_high"]
        rows.append((task, "striking out never-correct options does not help", holds, figure))
    shared = report["scenes_in_two_splits"]
    rows.append(("all", "no scene in two splits", not shared, f"{len(shared)} scenes shared"))
    done = report["recomputed"]
    verdict = None if not done["checked"] else not done["wrong"]
    rows.append(("all", "no answer differs from its recomputation", verdict, f"{done['wrong']} of {done['checked']}"))
    return [dict(zip(("task", "bar", "passed", "figure"), row, strict=True)) for row in rows]
