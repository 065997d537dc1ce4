"""What the audit finds about folders of samples.

Each bar is a statement that holds or not; ``audit.json`` and ``audit.html`` say which, with every figure behind it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from datagen.audit.balance import (
    elimination,
    fact_counts,
    letter_shares,
    near_duplicates,
    option_priors,
    scenes_in_two_splits,
)
from datagen.audit.baselines import BASELINES, evaluate, project
from datagen.audit.folds import FOLDS
from datagen.audit.items import Item, by_task, to_item
from datagen.audit.page import render_audit
from datagen.verify import Mismatch
from ipt.common.errors import UserError
from ipt.common.files import write_bytes, write_json
from ipt.common.progress import tracked
from ipt.common.seeding import generator
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader

LETTER_POINTS = 2.0


Recheck = Callable[[Iterable[SpatialSample]], Iterable[Mismatch]]


def audit(
    folders: Sequence[Path], output: Path, recheck: Recheck | None = None, seed: int = 0, quiet: bool = False
) -> dict[str, Any]:
    """Audit sealed folders (or single shards) together, write ``audit.json`` and ``audit.html`` to ``output``.

    ``recheck`` recomputes answers and yields what differs (``datagen.verify.recheck`` with an open backend). Returns the
    content of ``audit.json``; ``passed`` is true if every bar that was tested holds. ``ValueError`` where there is no
    sample, where an id occurs twice, or for fewer scenes than folds; ``OSError``, before anything is read, where ``output``
    cannot be a folder.
    """
    output.mkdir(parents=True, exist_ok=True)
    readers = [SampleReader(folder) for folder in folders]
    total = sum(map(len, readers))

    def samples(what: str) -> Iterable[SpatialSample]:
        stream = itertools.chain.from_iterable(readers)
        return stream if quiet else tracked(stream, what, total)

    items = list(map(to_item, samples("reading samples")))
    if len({item.id for item in items}) != total or not total:
        different = len({item.id for item in items})
        raise UserError(f"{total} samples with {different} different ids in {', '.join(map(str, folders))}")
    found = None if recheck is None else list(recheck(samples("reading cameras")))
    report = audit_items(items, found, seed)
    report["folders"] = [folder.name for folder in folders]
    write_json(output / "audit.json", report)
    write_bytes(output / "audit.html", render_audit(report).encode())
    return report


def audit_items(items: Sequence[Item], found: Sequence[Mismatch] | None = None, seed: int = 0) -> dict[str, Any]:
    """The report as JSON values; ``found`` are recomputed answers that differ and those that no scene could be loaded for,
    None if none was recomputed."""
    wrong = [mismatch for mismatch in found or () if not mismatch.error]
    unchecked = [mismatch for mismatch in found or () if mismatch.error]
    recomputed = {
        "checked": 0 if found is None else len(items) - len(unchecked),
        "wrong": len(wrong),
        "unchecked": len(unchecked),
        "examples": [str(mismatch) for mismatch in (*wrong[:20], *unchecked[:20])],
    }
    report: dict[str, Any] = {
        "samples": len(items),
        "tasks": {task: audit_task(group, seed) for task, group in sorted(by_task(items).items())},
        "scenes_in_two_splits": scenes_in_two_splits(items),
        "near_duplicates": near_duplicates(items),
        "recomputed": recomputed,
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
        own = [item for item in items if not baseline.clue or baseline.clue in item.clues]
        if len({item.scene for item in own}) < FOLDS:
            continue
        excess = evaluate(baseline, own, projections, seed)
        guess = sum(item.chance for item in own) / len(own)
        report["baselines"][baseline.name] = {
            "shows": baseline.shows,
            "bar": baseline.bar,
            "margin": baseline.margin,
            "why": baseline.why,
            "questions": len(own),
            "chance": guess,
            "holds": baseline.holds(excess),
            **excess.shifted(guess).to_json(),
        }
    return report


def said(baseline: str, margin: float | None) -> str:
    """The bar of a baseline, in words."""
    if margin is None:
        return f"interval of {baseline} includes chance"
    return f"{baseline} does not beat chance by more than {100 * margin:g} points"


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
                figure = f"{row['value']:.1%} [{row['low']:.1%}, {row['high']:.1%}], chance {row['chance']:.1%}"
                figure += f" ({row['why']})" if row["why"] else ""
                rows.append((task, said(name, row["margin"]), row["holds"], figure))
        struck = part["elimination"]
        figure = f"{struck['guess_rate']:.2%}, by chance up to {struck['null_high']:.2%}"
        holds = struck["guess_rate"] <= struck["null_high"]
        rows.append((task, "striking out never-correct options does not help", holds, figure))
    shared = report["scenes_in_two_splits"]
    rows.append(("all", "no scene in two splits", not shared, f"{len(shared)} scenes shared"))
    done = report["recomputed"]
    verdict = None if not done["checked"] else not done["wrong"]
    rows.append(("all", "no answer differs from its recomputation", verdict, f"{done['wrong']} of {done['checked']}"))
    asked = done["checked"] + done["unchecked"]
    verdict = None if not asked else not done["unchecked"]
    rows.append(("all", "every answer could be recomputed", verdict, f"{done['unchecked']} of {asked} could not"))
    return [dict(zip(("task", "bar", "passed", "figure"), row, strict=True)) for row in rows]
