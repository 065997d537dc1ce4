"""Nothing is dropped silently: every filter counts what it tested and what it turned away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class NoYield(ValueError):
    """Filters that nothing passes; the message names the worst one and its share of rejections."""


#: Counts scenes that gave nothing in the end: what comes of the other filters, never a cause.
OUTCOME = "scene.gives_candidates"


@dataclass
class Yields:
    """Counts per filter: how many candidates it tested and how many it rejected."""

    tested: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)

    def check(self, name: str, passed: bool) -> bool:
        """Count one test of filter ``name`` and return its verdict."""
        return self.count(name, 1, 0 if passed else 1) == 0

    def count(self, name: str, tested: int, rejected: int) -> int:
        """Count ``tested`` tests of filter ``name`` at once; returns ``rejected``."""
        self.tested[name] = self.tested.get(name, 0) + int(tested)
        self.rejected[name] = self.rejected.get(name, 0) + int(rejected)
        return rejected

    def add(self, other: Yields) -> None:
        """Add another report's counts to this one."""
        for name, tested in other.tested.items():
            self.count(name, tested, other.rejected[name])

    def share(self, name: str) -> float:
        """Share of candidates that filter ``name`` rejected, 0..1."""
        return self.rejected[name] / max(self.tested[name], 1)

    def worst(self) -> str:
        """``filter 'min_area' rejected 97.1%`` for the filter with the highest share of rejections."""
        if not self.tested:
            return "no candidate reached any filter"
        # Of filters that reject alike, the one that tested most stands first in the chain: it is the cause.
        causes = self.tested.keys() - {OUTCOME} or self.tested
        name = max(sorted(causes), key=lambda item: (round(self.share(item), 3), self.tested[item]))
        return f"filter '{name}' rejected {100 * self.share(name):.1f}%"

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
    def from_json(cls, record: Mapping[str, Mapping[str, float]]) -> Yields:
        return cls(
            {name: int(entry["tested"]) for name, entry in record.items()},
            {name: int(entry["rejected"]) for name, entry in record.items()},
        )
