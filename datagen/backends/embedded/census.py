"""Count what stands in generated homes: ``python -m datagen.backends.embedded.census houses=500``.

Prints how many homes hold each room kind and each object category, sizes, and generation time; about 0.1 CPU-s a home.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from datagen.backends.embedded.furniture import FURNITURE
from datagen.backends.embedded.house import make_house
from ipt.common import cli


@dataclass(frozen=True)
class CensusConfig:
    """Generate homes and count rooms and objects. houses: how many; first_seed: the seed of the first."""

    houses: int = 100
    first_seed: int = 0


def census(config: CensusConfig) -> str:
    """The report, one line per room kind and category, most frequent first."""
    homes_with: Counter[str] = Counter()
    total: Counter[str] = Counter()
    rooms: Counter[str] = Counter()
    sizes: Counter[int] = Counter()
    parts = triangles = 0
    start = time.process_time()
    for seed in range(config.first_seed, config.first_seed + config.houses):
        scene = make_house(f"census-{seed}", seed)
        found = Counter(thing.category for thing in scene.objects)
        homes_with.update(found.keys())
        total.update(found)
        rooms.update(room.kind for room in scene.rooms)
        sizes[len(scene.rooms)] += 1
        parts += len(scene.parts)
        triangles += sum(len(part.mesh.faces) for part in scene.parts)
    spent, count = (time.process_time() - start) / config.houses, config.houses
    lines = [
        f"{count} homes, {spent:.3f} CPU-s each; per home {sum(total.values()) / count:.1f} objects, {parts / count:.0f} parts, "
        f"{triangles / count:.0f} triangles",
        "rooms per home: " + ", ".join(f"{size}: {sizes[size]}" for size in sorted(sizes)),
        *(f"{kind:18}{number:6} rooms" for kind, number in rooms.most_common()),
        *(f"{name:18}{total[name]:6} in {homes_with[name]:4} homes" for name, _ in homes_with.most_common()),
    ]
    if absent := sorted(set(FURNITURE) - set(total)):
        lines.append("never: " + ", ".join(absent))
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(CensusConfig, lambda config: print(census(config)))
