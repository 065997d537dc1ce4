"""What can be read from hidden states: linear probes by layer and role, of what the simulator knows about the unseen view.

Ridge classifiers on states that are averaged over the tokens of a role, in five folds that share no scene. Beside every probe
stand the majority class and a control on shuffled labels (Hewitt and Liang 2019). Added information is what a probe on inputs
and imagination gets over one on the inputs; the decodability gap what the state before the answer gives over the imagination
(arXiv 2606.05753).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ipt.common.errors import UserError
from ipt.common.files import write_bytes
from ipt.common.seeding import generator
from ipt.common.statistics import Estimate, Floats
from ipt.evaluation.quality.labels import labels_of
from ipt.evaluation.tables import percent, span
from ipt.faithfulness.effects import Bootstrap
from ipt.faithfulness.pool import Pool
from ipt.faithfulness.runs import Experiment
from ipt.samples.sample import SpatialSample

ROLES = ("observation", "imagination", "answer")
FOLDS, MOST, NOUNS, RAREST = 5, 1000, 4, 0.1
STATES = "hidden.npz"


@dataclass(frozen=True)
class Probe:
    """Accuracies of one target: ``layers`` by role and layer, on the last one the ``added`` information and the ``gap``."""

    target: str
    count: int
    majority: float
    control: float
    layers: Mapping[str, Sequence[float]]
    added: Estimate
    gap: Estimate


@dataclass(frozen=True)
class Probes:
    """``layers``: numbers of the layers, from 1, whose outputs were kept."""

    layers: tuple[int, ...]
    probes: tuple[Probe, ...]

    def table(self) -> tuple[list[str], list[list[object]]]:
        shown = [f"{role}, layer {' / '.join(map(str, self.layers))}" for role in ROLES]
        rows: list[list[object]] = []
        for each in self.probes:
            accuracies = [" / ".join(percent(value) for value in each.layers[role]) for role in ROLES]
            differences = [f"{100 * e.value:+.1f} {span((e.low, e.high), True)}" for e in (each.added, each.gap)]
            rows.append(
                [each.target, each.count, percent(each.majority), percent(each.control), *accuracies, *differences]
            )
        return [
            "target",
            "n",
            "majority %",
            "shuffled %",
            *shown,
            "added by the imagination",
            "answer over imagination",
        ], rows


def probed(experiment: Experiment, pool: Pool) -> Probes | None:
    """Probes of the first imaginations; None for a subject without hidden states, and with fewer scenes than folds."""
    names = [name for name in pool.about if pool.made(name, 0) is not None][:MOST]
    scenes = [pool.about[name].scene or name for name in names]
    if len(set(scenes)) < FOLDS:
        return None
    states = kept_states(experiment, pool, names)
    if states is None:
        return None
    found = []
    for target, labels in targets([pool.data[pool.rows[name]] for name in names]).items():
        known = np.flatnonzero([label is not None for label in labels])
        classes = np.unique([str(labels[row]) for row in known], return_inverse=True)[1]
        groups = [scenes[row] for row in known]
        if len(set(groups)) >= FOLDS and np.bincount(classes).min() >= RAREST * len(classes) / len(set(classes)):
            found.append(probe(target, {role: states[role][known] for role in ROLES}, classes, groups, pool.seed))
    return Probes(tuple(states["layers"].tolist()), tuple(found))


def kept_states(experiment: Experiment, pool: Pool, names: Sequence[str]) -> Mapping[str, Any] | None:
    """States (n, layers, D) by role, from the file in the folder of the runs where there is one of the same questions and
    model."""
    path, key = experiment.root / STATES, "\n".join([experiment.base.checkpoint_sha256, *names])
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["key"]) == key:
                return {name: kept[name] for name in (*ROLES, "layers")}
    made: list[Mapping[str, Any]] = []
    for start in range(0, len(names), experiment.config.batch_size):
        batch = names[start : start + experiment.config.batch_size]
        mediators = {name: mediator for name in batch if (mediator := pool.made(name, 0)) is not None}
        states = pool.subject.hidden([pool.data[pool.rows[name]] for name in batch], mediators)
        if states is None:
            return None
        made.append(states)
    joined = {role: np.concatenate([each[role] for each in made]) for role in ROLES} | {"layers": made[0]["layers"]}
    stream = io.BytesIO()
    np.savez(stream, key=np.array(key), **joined)
    write_bytes(path, stream.getvalue())
    return joined


def targets(samples: Sequence[SpatialSample]) -> dict[str, list[object]]:
    """What is asked of the states of each sample: classes by target; None where a sample does not tell."""
    found: dict[str, list[object]] = {"answer": [sample.answer_text for sample in samples]}
    try:
        labels = [labels_of(sample) for sample in samples]
    except UserError:
        return found
    distances = [label.distance_m for label in labels]
    middle = float(np.median([each for each in distances if each is not None] or [0.0]))
    found["object left or right"] = [None if each.place is None else each.place < 0.5 for each in labels]
    found["object near or far"] = [None if each is None else each < middle for each in distances]
    found["number of objects"] = [each.counts[each.asked] if each.counted else None for each in labels]
    nouns = sorted({noun for each in labels for noun in each.counts})
    shares = {noun: np.mean([noun in each.counts for each in labels]) for noun in nouns}
    for noun in sorted(nouns, key=lambda noun: abs(shares[noun] - 0.5))[:NOUNS]:
        found[f"{noun} in view"] = [
            noun in each.counts if each.complete or noun in each.counts else None for each in labels
        ]
    return {name: values for name, values in found.items() if len({*values} - {None}) > 1}


def probe(target: str, states: Mapping[str, Floats], classes: Any, scenes: Sequence[str], seed: int) -> Probe:
    """The probes of one target: ``states`` (n, layers, D) by role, ``classes`` (n,)."""
    hits = {
        role: [right(states[role][:, layer], classes, scenes) for layer in range(states[role].shape[1])]
        for role in ROLES
    }
    seen = states["observation"][:, -1]
    both = right(np.concatenate([seen, states["imagination"][:, -1]], axis=1), classes, scenes)
    shuffled = classes[generator(seed, "control", target).permutation(len(classes))]
    draws = Bootstrap(scenes, 2000, seed)
    return Probe(
        target,
        len(classes),
        majority=float(np.bincount(classes).max() / len(classes)),
        control=float(right(states["imagination"][:, -1], shuffled, scenes).mean()),
        layers={role: [float(each.mean()) for each in listed] for role, listed in hits.items()},
        added=draws.estimate(both - hits["observation"][-1]),
        gap=draws.estimate(hits["answer"][-1] - hits["imagination"][-1]),
    )


def right(rows: Floats, classes: Any, scenes: Sequence[str]) -> Floats:
    """(n,) whether a probe that never saw the scene of a row tells its class."""
    told = np.full(len(classes), -1)
    for train, test in GroupKFold(FOLDS).split(rows, classes, scenes):
        if len(set(classes[train])) > 1:
            model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0)).fit(rows[train], classes[train])
            told[test] = model.predict(rows[test])
    return (told == classes).astype(np.float64)
