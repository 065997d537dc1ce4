"""Effects: what arms do to answers, as paired means over questions with intervals from resampling scenes.

Two readouts: accuracy, which is 1 where the written answer is right, and the probability of the right option, which has no
decoding noise. Both are means over the seeds of a question. A scene is drawn whole, with its questions and their seeds: drawing
questions anew inside of drawn scenes would count their variance twice, and intervals would cover 98 % instead of 95 (a test
shows it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import stats

from ipt.common.seeding import generator
from ipt.common.statistics import Estimate, Floats, holm, mcnemar_exact, numbered, resampled
from ipt.evaluation.metrics import clusters
from ipt.faithfulness.interventions import DESTROYED, INTERVENTIONS, Arm, Others, parse_arm, target_of
from ipt.faithfulness.runs import BASELINE, DERIVED, IDENTITY, MEDIATION, NONE, SELF
from ipt.inference.prediction import Prediction

Arms = Mapping[tuple[str, int], Mapping[str, Prediction]]
Readout = Callable[[Prediction], float]
#: The divergence in nats below which the probabilities of a question have not moved.
UNMOVED = 1e-6
POWER = 2.8  # standard errors: 80 % power at 5 %, two-sided


def right(prediction: Prediction) -> float:
    return float(prediction.correct)


def probability(prediction: Prediction) -> float:
    """Of the right option; of an answer that failed, 0."""
    return prediction.probabilities[prediction.expected] if prediction.probabilities else 0.0


class Bootstrap:
    """Replicates of means over questions, by drawing scenes with replacement; the same draws for every quantity, so that
    differences and ratios of means are resampled together."""

    def __init__(self, scenes: Sequence[Any], replicates: int, seed: int) -> None:
        self.index = np.array(numbered(scenes), dtype=np.intp)
        self.scenes = len(set(scenes))
        self.weights = drawn_scenes(self.scenes, replicates, seed)
        self.counts = self.weights @ np.bincount(self.index, minlength=self.scenes)

    def means(self, values: Floats) -> Floats:
        """(replicates,) means of ``values`` (n,)."""
        return self.weights @ np.bincount(self.index, values, self.scenes) / self.counts

    def estimate(self, values: Floats) -> Estimate:
        """The mean with its 95% interval."""
        return self.summary(float(values.mean()), self.means(values), len(values))

    def ratio(self, above: Floats, below: Floats) -> Estimate | None:
        """The ratio of two means, None where the lower one is 0; of an indicator and a condition times it, P(event |
        condition)."""
        if not below.any():
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = self.means(above) / self.means(below)
        return self.summary(float(above.sum() / below.sum()), drawn, int(np.count_nonzero(below)))

    def summary(self, value: float, drawn: Floats, count: int, confidence: float = 0.95) -> Estimate:
        """A value with the percentile interval of its replicates; of a single scene, there is none: it is the whole line."""
        drawn = drawn[np.isfinite(drawn)]
        if self.scenes < 2 or not len(drawn):
            return Estimate(value, -np.inf, np.inf, count, self.scenes)
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Estimate(value, float(low), float(high), count, self.scenes)


@lru_cache(maxsize=4)
def drawn_scenes(scenes: int, replicates: int, seed: int) -> Floats:
    """(replicates, scenes) how often each scene is drawn: the same for all effects."""
    return resampled(generator(seed, "faithfulness"), scenes, replicates)


@dataclass(frozen=True)
class Effect:
    """Arm minus reference. ``gained`` and ``lost``: questions answered rightly in one of them only (first seed); ``p_value``:
    exact McNemar, ``adjusted`` in its family (Holm). ``equivalent``: two one-sided tests at 5 % say that the accuracies differ
    by less than the margin. ``divergence``: median Kullback-Leibler divergence of the options, in nats, and
    ``moved`` the share of questions where it is not 0; ``exact``: no
    probability differs in any bit. ``invalid``: answers that name no option."""

    arm: str
    reference: str
    family: str
    accuracy: Estimate
    probability: Estimate
    value: float
    gained: int
    lost: int
    p_value: float
    adjusted: float
    equivalent: bool
    divergence: float
    moved: float
    exact: bool
    invalid: int
    errors: int
    seeds: int

    @property
    def verdict(self) -> str:
        """What may be concluded of the accuracy."""
        if self.exact:
            return "bit for bit the same"
        if not self.accuracy.includes(0.0) and self.adjusted < 0.05:
            return "lower" if self.accuracy.value < 0 else "higher"
        return "no effect" if self.equivalent else "undecided"


class Paired(Bootstrap):
    """The questions that all of some arms answer, on all seeds that these have in common (arms that imagine nothing count for
    every seed). ``values`` of an arm are means over seeds (n,)."""

    def __init__(
        self, runs: Mapping[str, Sequence[Mapping[str, Prediction]]], ids: Sequence[str], results: Results
    ) -> None:
        self.runs, self.ids = runs, ids
        first = next(iter(runs.values()))[0]
        super().__init__(clusters([first[name] for name in ids]), results.replicates, results.seed)

    def values(self, name: str, readout: Readout = right) -> Floats:
        return np.mean([[readout(run[each]) for each in self.ids] for run in self.runs[name]], axis=0)


@dataclass(frozen=True)
class Results:
    """What arms answered, ``names`` those of interventions, on mediators of ``kind``; and how effects are tested."""

    arms: Arms
    names: Sequence[str]
    kind: str
    replicates: int = 10_000
    seed: int = 0
    margin: float = 0.02

    def runs(self, name: str) -> list[Mapping[str, Prediction]]:
        """The runs of an arm, by seed."""
        return [self.arms[name, seed] for seed in sorted(seed for arm, seed in self.arms if arm == name)]

    def has(self, *names: str) -> bool:
        return all((name, 0) in self.arms for name in names)

    def paired(self, *names: str) -> Paired | None:
        """The arms question by question; None where one is missing, or where they have no question in common."""
        if not self.has(*names):
            return None
        runs = {name: self.runs(name) for name in names}
        seeds = min((len(listed) for name, listed in runs.items() if name not in (NONE, BASELINE)), default=1)
        runs = {name: listed[:seeds] for name, listed in runs.items()}
        ids = sorted(set.intersection(*(set(run) for listed in runs.values() for run in listed)))
        return Paired(runs, ids, self) if ids else None


def divergences(reference: Mapping[str, Prediction], other: Mapping[str, Prediction]) -> Floats:
    """Kullback-Leibler divergences in nats, of each question that both give probabilities for."""
    found = []
    for name, before in reference.items():
        after = other.get(name)
        if after is not None and before.probabilities and after.probabilities:
            p, q = (np.maximum(each.probabilities, 1e-12) for each in (before, after))
            found.append(float((p * np.log(p / q)).sum()))
    return np.array(found)


def effect(results: Results, reference: str, arm: str, family: str) -> Effect | None:
    """The effect of an arm; None where the two have no question in common."""
    pair = results.paired(reference, arm)
    if pair is None:
        return None
    before, after = (pair.values(name) for name in (reference, arm))
    first, second = ({name: pair.runs[each][0][name] for name in pair.ids} for each in (reference, arm))
    outcomes = [(first[name].correct, second[name].correct) for name in pair.ids]
    gained, lost = outcomes.count((False, True)), outcomes.count((True, False))
    p_value, moves = mcnemar_exact(gained, lost), divergences(first, second)
    inner = pair.summary(0.0, pair.means(after - before), len(pair.ids), confidence=0.9)
    answers = [run[name] for run in pair.runs[arm] for name in pair.ids]
    return Effect(
        arm,
        reference,
        family,
        accuracy=pair.estimate(after - before),
        probability=pair.estimate(pair.values(arm, probability) - pair.values(reference, probability)),
        value=float(after.mean()),
        gained=gained,
        lost=lost,
        p_value=p_value,
        adjusted=p_value,
        equivalent=max(abs(inner.low), abs(inner.high), bound(gained, lost, len(pair.ids))) < results.margin,
        divergence=float(np.median(moves)) if len(moves) else 0.0,
        moved=float(np.mean(moves > UNMOVED)) if len(moves) else 0.0,
        exact=all(
            first[n].probabilities == second[n].probabilities and first[n].answer == second[n].answer for n in first
        ),
        invalid=sum(each.answer is None and each.error is None for each in answers),
        errors=sum(each.error is not None for each in answers),
        seeds=len(pair.runs[arm]),
    )


def bound(gained: int, lost: int, count: int) -> float:
    """The end farther from 0 of a 90 % interval of a paired difference, half a pair added to each side (Agresti and Min 2005):
    where nothing differs, a bootstrap has nothing to resample, and few questions would prove that nothing ever does."""
    more, less = gained + 0.5, lost + 0.5
    error = np.sqrt(more + less - (more - less) ** 2 / count) / count
    return float(abs(gained - lost) / count + stats.norm.ppf(0.95) * error)


def family_of(name: str, kind: str) -> str:
    """The family of an arm by its name; arms of the true mediator are one of their own but for the controls."""
    arm = parse_arm(name, kind)
    if arm.name == "render":
        return "view" if arm.arguments[0].startswith(("yaw", "distance")) else "edit"
    return "truth" if arm.is_true else INTERVENTIONS[kind][arm.name].family


def reference_of(name: str, kind: str) -> str:
    """What an arm is compared with: the model's own mediator, or the truth where the truth was changed."""
    arm = parse_arm(name, kind)
    return "gt" if arm.name == "render" or (arm.is_true and str(arm) != "gt") else IDENTITY


def all_effects(results: Results) -> list[Effect]:
    """The effect of every arm, p-values adjusted within families; first of all the production run against the identity."""
    kind, pairs = results.kind, [(SELF, IDENTITY, "guard"), (NONE, IDENTITY, "none")]
    pairs += [(name, reference_of(name, kind), family_of(name, kind)) for name in results.names if name != IDENTITY]
    tried = (effect(results, reference, name, family) for name, reference, family in pairs)
    found = [each for each in tried if each is not None]
    adjusted: list[Effect] = []
    for family in dict.fromkeys(each.family for each in found):
        group = [each for each in found if each.family == family]
        p_values = holm([each.p_value for each in group])
        adjusted += [replace(each, adjusted=p) for each, p in zip(group, p_values, strict=True)]
    return adjusted


def guards(effects: Sequence[Effect], results: Results, silent: int = 0) -> list[str]:
    """What is wrong with the instrument, in sentences; none where it is sound. ``silent``: questions without a mediator."""
    found = []
    production = next((each for each in effects if each.arm == SELF), None)
    if production is not None and (production.gained + production.lost or production.divergence > 1e-4):
        found.append(
            f"Putting the model's own mediator back is not neutral: {production.gained + production.lost} answers differ from "
            f"production, median divergence {production.divergence:.2g} nats."
        )
    for each in effects:
        if each.family == "destroy" and not each.moved:
            found.append(f"The hook of arm {each.arm} did not fire: it moves the probabilities of no question.")
        if each.invalid + each.errors > 0.05 * each.accuracy.count * each.seeds:
            found.append(
                f"Arm {each.arm}: {each.invalid} answers name no option, {each.errors} failed; they count as wrong."
            )
    own = list(results.arms[SELF, 0].values())
    if len(own) > 1 and len({p.answer for p in own}) == 1:
        found.append(
            "Every answer is the same letter: with such a model nothing that precedes an answer can have an effect on it."
        )
    if silent:
        found.append(
            f"For {silent} of {len(own)} questions the model made no {results.kind}; all arms repeat its answer there."
        )
    return found


def telescope(results: Results) -> dict[str, Estimate]:
    """The gain over the baseline, exactly in terms: training, presence and content sum to ``total``; above it the ``headroom``,
    which is generation and codec. Without a baseline, the terms from the model's own answers at once on."""
    destroyed = DESTROYED[results.kind]
    steps = [("training", BASELINE, NONE), ("presence", NONE, destroyed), ("content", destroyed, IDENTITY)]
    known = [step for step in steps if results.has(*step[1:])]
    top = [("generation", IDENTITY, "gt.round_trip"), ("codec", "gt.round_trip", "gt"), ("headroom", IDENTITY, "gt")]
    above = [step for step in top if results.has(*step[1:])]
    pair = results.paired(*dict.fromkeys(name for step in (*known, *above) for name in step[1:]))
    if not known or pair is None:
        return {}
    values = {name: pair.values(name) for name in pair.runs}
    summed = [*known, ("total", known[0][1], known[-1][2]), *above]
    return {what: pair.estimate(values[last] - values[first]) for what, first, last in summed}


def mediation(results: Results) -> dict[str, Estimate]:
    """Total, direct and indirect effects of the inputs on accuracy, from executed interventions (Pearl 2001; TE = NDE + TNIE to
    the last bit of the means): NDE keeps the mediator of absent inputs, TNIE keeps the inputs. ``sufficiency``: accuracy from
    the mediator alone. The share ``PM`` is there only where the total effect is not zero."""
    pair = results.paired(IDENTITY, *MEDIATION)
    if pair is None:
        return {}
    present, direct, indirect, absent, true = (pair.values(name) for name in (IDENTITY, *MEDIATION))
    terms = {
        "TE": present - absent,
        "NDE": direct - absent,
        "TNIE": present - direct,
        "PNIE": indirect - absent,
        "INT": present - direct - indirect + absent,
        "sufficiency of the own": indirect,
        "sufficiency of the truth": true,
    }
    found = {name: pair.estimate(values) for name, values in terms.items()}
    share = pair.ratio(terms["TNIE"], terms["TE"])
    return found if found["TE"].includes(0.0) or share is None else {**found, "PM": share}


def derived(results: Results) -> dict[str, Estimate]:
    """Accuracy on questions about something else in the same view, the inputs hidden: from the own mediator, from one without
    content, from the truth, and what the own is worth."""
    pair = results.paired(*DERIVED)
    if pair is None:
        return {}
    own, empty, true = (pair.values(name) for name in DERIVED)
    terms = {"from its own": own, "without content": empty, "from the truth": true, "own over none": own - empty}
    return {name: pair.estimate(values) for name, values in terms.items()}


def steering(results: Results, others: Others) -> dict[str, Estimate]:
    """Of the questions that the reference answers rightly: how much more often does an arm that asks for option y' get y' than
    one without content does? This tells reading a mediator from being disturbed by it."""
    found, kind = {}, results.kind
    for name in results.names:
        reference, destroyed = reference_of(name, kind), DESTROYED[kind]
        noise = f"gt.{destroyed}" if reference == "gt" and results.has(f"gt.{destroyed}") else destroyed
        pair = results.paired(reference, name, noise)
        if pair is None:
            continue
        shown, arm = pair.runs[reference][0], parse_arm(name, kind)
        targets = {each: target_of(arm, kind, shown[each], others) for each in pair.ids}

        def took(p: Prediction, targets: Mapping[str, int | None] = targets) -> float:
            return float(p.answer is not None and p.answer == targets[p.sample_id])

        given = pair.values(reference) * [targets[each] is not None for each in pair.ids]
        known = pair.ratio((pair.values(name, took) - pair.values(noise, took)) * given, given)
        if known is not None:
            found[name] = known
    return found


@dataclass(frozen=True)
class Dose:
    """How answers fall with the dose. ``points``: dose, accuracy, probability of the right option; dose 0 is the reference.
    ``d50``: where half of the content effect is lost, interpolated; ``reached``: share of replicates in which it is. ``rank``:
    Spearman correlation of dose and probability over questions."""

    name: str
    points: tuple[tuple[float, Estimate, Estimate], ...]
    d50: Estimate | None
    reached: float
    rank: float
    slope: float


def doses(results: Results) -> list[Dose]:
    """Every series of arms that differ in a number, weakest first."""
    series: dict[str, list[tuple[float, str]]] = {}
    for name in results.names:
        what, number = dose_of(parse_arm(name, results.kind), results.kind)
        if what and results.has(name):
            series.setdefault(what, []).append((number, name))
    found = [dose(results, what, sorted(listed)) for what, listed in series.items() if len(listed) > 1]
    return [each for each in found if each is not None]


def dose_of(arm: Arm, kind: str) -> tuple[str, float]:
    """The series of an arm, empty for none, and its dose there."""
    prefix = "gt." if arm.is_true else ""
    if arm.name == "render":
        what, _, number = arm.arguments[0].partition("+")
        return (f"render {what}", float(number)) if number else ("", 0.0)
    if INTERVENTIONS[kind][arm.name].family == "dose":
        return prefix + arm.name, float(arm.arguments[0]) - (arm.name == "size")
    return "", 0.0


def dose(results: Results, what: str, listed: Sequence[tuple[float, str]]) -> Dose | None:
    arms_of, noise = [reference_of(listed[0][1], results.kind), *(name for _, name in listed)], DESTROYED[results.kind]
    pair = results.paired(*arms_of, *([noise] if results.has(noise) else []))
    if pair is None:
        return None
    steps = np.array([0.0, *(number for number, _ in listed)])
    accuracy, chance = ([pair.values(name, readout) for name in arms_of] for readout in (right, probability))
    points = tuple(
        (float(step), pair.estimate(a), pair.estimate(p)) for step, a, p in zip(steps, accuracy, chance, strict=True)
    )
    pooled = np.repeat(steps, len(pair.ids)), np.concatenate(chance)
    rank = stats.spearmanr(*pooled).statistic if np.ptp(pooled[1]) > 0 else 0.0
    slope = float(np.polyfit(steps, [values.mean() for values in chance], 1)[0])
    half, reached = None, 0.0
    if noise in pair.runs:
        floor = pair.values(noise, probability)
        value = half_dose(steps, np.array([[v.mean() for v in chance]]), np.array([floor.mean()]))[0]
        drawn = half_dose(steps, np.stack([pair.means(v) for v in chance], 1), pair.means(floor))
        reached = float(np.isfinite(drawn).mean())
        if np.isfinite(value):  # where it is not reached, it lies beyond the last dose
            half = pair.summary(float(value), np.where(np.isfinite(drawn), drawn, steps[-1]), len(pair.ids))
    return Dose(what, points, half, reached, float(rank), slope)


def half_dose(steps: Floats, curve_RD: Floats, floor_R: Floats) -> Floats:
    """(R,) the dose at which each curve has lost half of what lies between its start and its floor, by linear interpolation of
    the curve's running minimum; NaN where it never does, or where there is no content to lose."""
    falling = np.minimum.accumulate(curve_RD, axis=1)
    wanted = (falling[:, 0] + floor_R) / 2
    below = falling <= wanted[:, None]
    after = np.argmax(below, axis=1)
    rows, before = np.arange(len(falling)), np.maximum(after - 1, 0)
    high, low = falling[rows, before], falling[rows, after]
    share = (high - wanted) / np.maximum(high - low, 1e-12)
    found = steps[before] + share * (steps[after] - steps[before])
    return np.where(below.any(1) & (falling[:, 0] > floor_R) & (after > 0), found, np.nan)


def trust(results: Results, reader: Mapping[str, Prediction]) -> dict[str, Estimate]:
    """``necessity``: P(wrong without content | right). ``over-trust in ARM``: P(wrong | right before), for arms whose content
    is wrong. ``under-use``: P(wrong from the truth | a reader is right from it), with the reader's predictions; without,
    P(wrong from the truth)."""
    found: dict[str, Estimate | None] = {}
    misleading = [name for name in results.names if family_of(name, results.kind) in ("view", "edit")]
    misleading += [name for name in results.names if name.startswith("swap") and name.endswith("other_answer")]
    for name in (DESTROYED[results.kind], *misleading):
        pair = results.paired(reference := reference_of(name, results.kind), name)
        if pair is not None:
            given, what = pair.values(reference), "over-trust in" if name in misleading else "necessity:"
            found[f"{what} {name}"] = pair.ratio((1 - pair.values(name)) * given, given)
    pair = results.paired("gt")
    if pair is not None:
        given = np.array([float(not reader or (name in reader and reader[name].correct)) for name in pair.ids])
        what = "under-use (wrong from the truth where the reader is right)" if reader else "wrong from the truth"
        found[what] = pair.ratio((1 - pair.values("gt")) * given, given)
    return {name: each for name, each in found.items() if each is not None}


def detectable(count: int, scenes: int, correlation: float = 0.1) -> list[tuple[float, float, float]]:
    """For shares of discordant pairs, the smallest difference of accuracy that is found with 80 % power at 5 %: if questions
    were independent, and if answers within a scene correlate. 2.8 standard errors of a paired difference (Connor 1987)."""
    inflation = 1 + max(0.0, count / max(1, scenes) - 1) * correlation
    shares = (0.05, 0.1, 0.2)
    return [(d, POWER * (d / count) ** 0.5, POWER * (d * inflation / count) ** 0.5) for d in shares]


def to_json(value: Any) -> Any:
    """Findings as JSON values; the bounds of an interval that is the whole line as null."""
    if is_dataclass(value) and not isinstance(value, type):
        values = {entry.name: getattr(value, entry.name) for entry in fields(value)}
        return to_json(values | ({"verdict": value.verdict} if isinstance(value, Effect) else {}))
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
