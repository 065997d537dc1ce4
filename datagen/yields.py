"""Nothing is dropped silently: every filter counts what it tested and what it turned away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ipt.common.errors import UserError


class NoYield(UserError):
    """Filters that nothing passes; the message names the worst one and its share of rejections."""


#: Counts scenes that gave nothing in the end: what comes of the other filters, never a cause.
OUTCOME = "scene.gives_candidates"
LOADS = "scene.loads"
MAX_ERRORS = 20  # different messages that are kept: a run over thousands of broken scenes must not drown its manifest
OTHERS = "others"


@dataclass
class Yields:
    """Counts per filter: how many candidates it tested and how many it rejected; and how often scenes said what was wrong."""

    tested: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)

    def check(self, name: str, passed: bool) -> bool:
        """Count one test of filter ``name`` and return its verdict."""
        return self.count(name, 1, 0 if passed else 1) == 0

    def count(self, name: str, tested: int, rejected: int) -> int:
        """Count ``tested`` tests of filter ``name`` at once; returns ``rejected``."""
        self.tested[name] = self.tested.get(name, 0) + int(tested)
        self.rejected[name] = self.rejected.get(name, 0) + int(rejected)
        return rejected

    def note(self, message: str, times: int = 1) -> None:
        """Keep what a scene says is wrong with it; of more than ``MAX_ERRORS`` different messages only the number."""
        kept = message if message in self.errors or len(self.errors) < MAX_ERRORS else OTHERS
        self.errors[kept] = self.errors.get(kept, 0) + times

    def add(self, other: Yields) -> None:
        """Add another report's counts to this one."""
        for name, tested in other.tested.items():
            self.count(name, tested, other.rejected[name])
        for message, times in other.errors.items():
            self.note(message, times)

    def share(self, name: str) -> float:
        """Share of candidates that filter ``name`` rejected, 0..1."""
        return self.rejected[name] / max(self.tested[name], 1)

    def worst(self) -> str:
        """``filter 'min_area' rejected 97.1%`` for the filter that least of what it tests passes.

        The share that passes is estimated as (passed + 1/2) / (tested + 1) (Jeffreys): a filter that turned away 10 of 10
        is no worse than one that turned away 9,990 of 10,000.
        """
        if not self.tested:
            return "no candidate reached any filter"
        causes = self.tested.keys() - {OUTCOME} or self.tested
        passed = {name: (self.tested[name] - self.rejected[name] + 0.5) / (self.tested[name] + 1) for name in causes}
        name = min(sorted(causes), key=lambda item: passed[item])
        said = max(self.errors, key=self.errors.__getitem__) if name == LOADS and self.errors else ""
        return f"filter '{name}' rejected {100 * self.share(name):.1f}%" + (f" ({said})" if said else "")

    def to_json(self) -> dict[str, dict[str, float]]:
        return {
            name: {
                "tested": self.tested[name],
                "rejected": self.rejected[name],
                "rejected_share": round(self.share(name), 4),
            }
            for name in sorted(self.tested)
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Mapping[str, float]], errors: Mapping[str, int]) -> Yields:
        return cls(
            {name: int(entry["tested"]) for name, entry in record.items()},
            {name: int(entry["rejected"]) for name, entry in record.items()},
            dict(errors),
        )
