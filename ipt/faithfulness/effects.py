"""Effects: what arms do to answers, as paired means over questions with intervals from resampling scenes.

Two readouts: accuracy, which is 1 where the written answer is right, and the probability of the right option, which has no
decoding noise. Both are means over the seeds of a question. A scene is drawn whole, with its questions and their seeds: drawing
questions anew inside of drawn scenes would count their variance twice, and intervals would cover 98 % instead of 95 (a test
shows it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from ipt.common.seeding import generator
from ipt.common.statistics import Estimate, Floats, holm, mcnemar_exact, numbered, resampled
from ipt.evaluation.metrics import clusters
from ipt.faithfulness.interventions import DESTROYED, INTERVENTIONS, Arm, Others, parse_arm, target_of
from ipt.faithfulness.runs import DERIVED, IDENTITY, MEDIATION, NONE, SELF
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
        self.weights = resampled(generator(seed, "faithfulness"), self.scenes, replicates)

    def means(self, values: Floats) -> Floats:
        """(replicates,) means of ``values`` (n,), in which NaN stands for a question that does not count."""
        counted = np.isfinite(values)
        sums = np.bincount(self.index, np.where(counted, values, 0.0), self.scenes)
        counts = self.weights @ np.bincount(self.index, counted, self.scenes)
        return np.where(counts > 0, self.weights @ sums / np.maximum(counts, 1), np.nan)

    def estimate(self, values: Floats) -> Estimate | None:
        """The mean with its 95% interval; None where no question counts."""
        counted = np.isfinite(values)
        if not counted.any():
            return None
        return self.summary(float(values[counted].mean()), self.means(values), int(counted.sum()))

    def summary(self, value: float, drawn: Floats, count: int, confidence: float = 0.95) -> Estimate:
        """A value with the percentile interval of its replicates; of a single scene, there is none: it is the whole line."""
        drawn = drawn[np.isfinite(drawn)]
        if self.scenes < 2 or not len(drawn):
            return Estimate(value, -np.inf, np.inf, count, self.scenes)
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Estimate(value, float(low), float(high), count, self.scenes)


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


def seeds_of(arms: Arms, name: str) -> list[int]:
    return sorted(seed for arm, seed in arms if arm == name)


class Paired:
    """The questions that all of some arms answer, on all seeds that these have in common; ``values`` of an arm are means over
    seeds (n,). Arms without imagination count for every seed."""

    def __init__(self, arms: Arms, names: Sequence[str], replicates: int, seed: int) -> None:
        self.arms = {name: [arms[name, each] for each in seeds_of(arms, name)] for name in names}
        self.seeds = min((len(runs) for name, runs in self.arms.items() if not single(name)), default=1)
        runs = [run for name in names for run in self.arms[name][: self.seeds]]
        self.ids = sorted(set.intersection(*(set(run) for run in runs)))
        first = [runs[0][name] for name in self.ids]
        self.bootstrap = Bootstrap(clusters(first), replicates, seed) if first else None

    def __bool__(self) -> bool:
        return bool(self.ids)

    def values(self, name: str, readout: Readout = right) -> Floats:
        runs = self.arms[name][: self.seeds]
        return np.mean([[readout(run[each]) for each in self.ids] for run in runs], axis=0)

    def estimate(self, values: Floats) -> Estimate:
        assert self.bootstrap is not None
        found = self.bootstrap.estimate(values)
        assert found is not None
        return found

    def share(self, event: Floats, given: Floats) -> Estimate | None:
        """P(event | given) from indicators or shares (n,), with its interval; None where nothing is given."""
        assert self.bootstrap is not None
        if not given.sum():
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = self.bootstrap.means(event * given) / self.bootstrap.means(given)
        return self.bootstrap.summary(float((event * given).sum() / given.sum()), drawn, round(float(given.sum())))


def single(name: str) -> bool:
    """Whether an arm has one run, whatever the seeds of others."""
    return name.removeprefix("baseline ") == NONE


def divergences(reference: Mapping[str, Prediction], other: Mapping[str, Prediction]) -> Floats:
    """Kullback-Leibler divergences in nats, of each question that both give probabilities for."""
    found = []
    for name, before in reference.items():
        after = other.get(name)
        if after is not None and before.probabilities and after.probabilities:
            p, q = (np.maximum(each.probabilities, 1e-12) for each in (before, after))
            found.append(float((p * np.log(p / q)).sum()))
    return np.array(found)


def effect(
    arms: Arms, reference: str, arm: str, family: str, margin: float, replicates: int, seed: int
) -> Effect | None:
    """The effect of an arm; None where the two have no question in common."""
    pair = Paired(arms, (reference, arm), replicates, seed)
    if not pair:
        return None
    assert pair.bootstrap is not None
    before, after = (pair.values(name) for name in (reference, arm))
    first, second = pair.arms[reference][0], pair.arms[arm][0]
    outcomes = [(first[name].correct, second[name].correct) for name in pair.ids]
    gained, lost = outcomes.count((False, True)), outcomes.count((True, False))
    p_value, moves = mcnemar_exact(gained, lost), divergences(first, second)
    inner = pair.bootstrap.summary(0.0, pair.bootstrap.means(after - before), len(pair.ids), confidence=0.9)
    runs = [run[name] for run in pair.arms[arm][: pair.seeds] for name in pair.ids]
    same = all(run[n].probabilities == other[n].probabilities and run[n].answer == other[n].answer
               for run, other in zip(pair.arms[reference], pair.arms[arm], strict=False) for n in pair.ids)  # fmt: skip
    return Effect(
        arm, reference, family,
        accuracy=pair.estimate(after - before),
        probability=pair.estimate(pair.values(arm, probability) - pair.values(reference, probability)),
        value=float(after.mean()),
        gained=gained, lost=lost, p_value=p_value, adjusted=p_value,
        equivalent=-margin < inner.low and inner.high < margin,
        divergence=float(np.median(moves)) if len(moves) else 0.0, moved=float(np.mean(moves > UNMOVED)) if len(moves) else 0.0,
        exact=same,
        invalid=sum(p.answer is None and p.error is None for p in runs),
        errors=sum(p.error is not None for p in runs),
        seeds=pair.seeds,
    )  # fmt: skip


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


def all_effects(arms: Arms, names: Sequence[str], kind: str, margin: float, replicates: int, seed: int) -> list[Effect]:
    """The effect of every arm, p-values adjusted within families; first of all the production run against the identity."""
    pairs = [(SELF, IDENTITY, "guard"), (NONE, IDENTITY, "none")]
    pairs += [(name, reference_of(name, kind), family_of(name, kind)) for name in names if name != IDENTITY]
    found = [
        each
        for name, reference, family in pairs
        if (name, 0) in arms and (each := effect(arms, reference, name, family, margin, replicates, seed)) is not None
    ]
    adjusted: list[Effect] = []
    for family in dict.fromkeys(each.family for each in found):
        group = [each for each in found if each.family == family]
        p_values = holm([each.p_value for each in group])
        adjusted += [replace(each, adjusted=p) for each, p in zip(group, p_values, strict=True)]
    return adjusted


def guards(effects: Sequence[Effect], arms: Arms, kind: str) -> list[str]:
    """What is wrong with the instrument, in sentences; none where it is sound."""
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
    own = list(arms[SELF, 0].values())
    silent = sum(not p.images if kind == "picture" else not p.thoughts for p in own)
    if silent:
        found.append(
            f"For {silent} of {len(own)} questions the model made no {kind}; all arms repeat its answer there."
        )
    return found


def telescope(arms: Arms, kind: str, replicates: int, seed: int) -> dict[str, Estimate]:
    """The gain over the baseline, exactly in terms: training, presence and content sum to ``total``; above it the ``headroom``,
    which is generation and codec. Without a baseline, the terms from the model's own answers at once on."""
    destroyed = DESTROYED[kind]
    steps = [("training", "baseline none", NONE), ("presence", NONE, destroyed), ("content", destroyed, IDENTITY)]
    known = [step for step in steps if (step[1], 0) in arms and (step[2], 0) in arms]
    round_trip = ("gt.round_trip", 0) in arms
    top = [("generation", IDENTITY, "gt.round_trip"), ("codec", "gt.round_trip", "gt")] if round_trip else []
    top += [("headroom", IDENTITY, "gt")]
    if not known:
        return {}
    names = list(dict.fromkeys(name for _, first, last in [*known, *top] for name in (first, last)))
    pair = Paired(arms, names, replicates, seed)
    if not pair:
        return {}
    values = {name: pair.values(name) for name in names}
    found = {what: pair.estimate(values[last] - values[first]) for what, first, last in known}
    found["total"] = pair.estimate(values[known[-1][2]] - values[known[0][1]])
    return found | {what: pair.estimate(values[last] - values[first]) for what, first, last in top}


def mediation(arms: Arms, replicates: int, seed: int, readout: Readout = right) -> dict[str, Estimate]:
    """Total, direct and indirect effects of the inputs, from executed interventions (Pearl 2001; TE = NDE + TNIE to the last
    bit of the means): NDE keeps the mediator of absent inputs, TNIE keeps the inputs. ``sufficiency``: accuracy from the
    mediator alone. The share ``PM`` is there only where the total effect is not zero."""
    if any((name, 0) not in arms for name in MEDIATION[:3]):
        return {}
    names = [IDENTITY, *(name for name in MEDIATION if (name, 0) in arms)]
    pair = Paired(arms, names, replicates, seed)
    if not pair:
        return {}
    assert pair.bootstrap is not None
    present = pair.values(IDENTITY, readout)
    direct, indirect, absent = (pair.values(name, readout) for name in MEDIATION[:3])
    terms = {
        "TE": present - absent,
        "NDE": direct - absent,
        "TNIE": present - direct,
        "PNIE": indirect - absent,
        "INT": present - direct - indirect + absent,
    }
    found = {name: pair.estimate(values) for name, values in terms.items()}
    if not found["TE"].includes(0.0):
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = pair.bootstrap.means(terms["TNIE"]) / pair.bootstrap.means(terms["TE"])
        found["PM"] = pair.bootstrap.summary(found["TNIE"].value / found["TE"].value, drawn, len(pair.ids))
    found["sufficiency of the own"] = pair.estimate(indirect)
    if "absent_gt" in pair.arms:
        found["sufficiency of the truth"] = pair.estimate(pair.values("absent_gt", readout))
    return found


def derived(arms: Arms, replicates: int, seed: int) -> dict[str, Estimate]:
    """Accuracy on questions about something else in the same view, the inputs hidden: from the own mediator, from one without
    content, from the truth, and what the own is worth."""
    if any((name, 0) not in arms for name in DERIVED):
        return {}
    pair = Paired(arms, DERIVED, replicates, seed)
    if not pair:
        return {}
    own, empty, true = (pair.values(name) for name in DERIVED)
    terms = {"from its own": own, "without content": empty, "from the truth": true, "own over none": own - empty}
    return {name: pair.estimate(values) for name, values in terms.items()}


def steering(
    arms: Arms, names: Sequence[str], kind: str, others: Others, replicates: int, seed: int
) -> dict[str, Estimate]:
    """Of the questions that the reference answers rightly: how much more often does an arm that asks for option y' get y' than
    one without content does? This tells reading a mediator from being disturbed by it."""
    found = {}
    for name in names:
        arm, reference = parse_arm(name, kind), reference_of(name, kind)
        noise = ("gt." if reference == "gt" and ("gt." + DESTROYED[kind], 0) in arms else "") + DESTROYED[kind]
        if any((each, 0) not in arms for each in (name, reference, noise)):
            continue
        pair = Paired(arms, (reference, name, noise), replicates, seed)
        shown = pair.arms[reference][0]
        targets = {each: target_of(arm, kind, shown[each], others) for each in pair.ids}
        given = np.array([float(targets[each] is not None) for each in pair.ids])
        if not given.sum():
            continue
        took = [
            np.mean([[run[each].answer == targets[each] for each in pair.ids] for run in pair.arms[which]], axis=0)
            for which in (name, noise)
        ]
        known = pair.share(took[0] - took[1], given * pair.values(reference))
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


def doses(arms: Arms, names: Sequence[str], kind: str, replicates: int, seed: int) -> list[Dose]:
    """Every series of arms that differ in a number, weakest first."""
    series: dict[str, list[tuple[float, str]]] = {}
    for name in names:
        arm = parse_arm(name, kind)
        what, number = dose_of(arm)
        if what and (name, 0) in arms:
            series.setdefault(what, []).append((number, name))
    found = [
        dose(arms, what, sorted(listed), kind, replicates, seed) for what, listed in series.items() if len(listed) > 1
    ]
    return [each for each in found if each is not None]


def dose_of(arm: Arm) -> tuple[str, float]:
    """The series of an arm, empty for none, and its dose there."""
    prefix = "gt." if arm.is_true else ""
    if arm.name == "render":
        what, _, number = arm.arguments[0].partition("+")
        return (f"render {what}", float(number)) if number else ("", 0.0)
    if arm.name in ("blur", "size", "drop", "fade"):
        return prefix + arm.name, float(arm.arguments[0]) - (arm.name == "size")
    return "", 0.0


def dose(
    arms: Arms, what: str, listed: Sequence[tuple[float, str]], kind: str, replicates: int, seed: int
) -> Dose | None:
    reference = reference_of(listed[0][1], kind)
    noise = DESTROYED[kind]
    pair = Paired(
        arms, [reference, *(name for _, name in listed), *([noise] if (noise, 0) in arms else [])], replicates, seed
    )
    if pair.bootstrap is None:
        return None
    steps = np.array([0.0, *(number for number, _ in listed)])
    arms_of = [reference, *(name for _, name in listed)]
    accuracy, chance = ([pair.values(name, readout) for name in arms_of] for readout in (right, probability))
    points = tuple(
        (float(step), pair.estimate(a), pair.estimate(p)) for step, a, p in zip(steps, accuracy, chance, strict=True)
    )
    pooled = np.repeat(steps, len(pair.ids)), np.concatenate(chance)
    rank = stats.spearmanr(*pooled).statistic if np.ptp(pooled[1]) > 0 else 0.0
    slope = float(np.polyfit(steps, [values.mean() for values in chance], 1)[0])
    half, reached = None, 0.0
    if noise in pair.arms:
        floor = pair.values(noise, probability)
        value = half_dose(steps, np.array([[v.mean() for v in chance]]), np.array([floor.mean()]))[0]
        drawn = half_dose(steps, np.stack([pair.bootstrap.means(v) for v in chance], 1), pair.bootstrap.means(floor))
        reached = float(np.isfinite(drawn).mean())
        if np.isfinite(value):  # where it is not reached, it lies beyond the last dose
            half = pair.bootstrap.summary(float(value), np.where(np.isfinite(drawn), drawn, steps[-1]), len(pair.ids))
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


def trust(
    arms: Arms, names: Sequence[str], kind: str, reader: Mapping[str, Prediction], replicates: int, seed: int
) -> dict[str, Estimate]:
    """``necessity``: P(wrong without content | right). ``over-trust in ARM``: P(wrong | right before), for arms whose content
    is wrong. ``under-use``: P(wrong from the truth | a reader is right from it), with the reader's predictions; without,
    P(wrong from the truth)."""
    found: dict[str, Estimate] = {}
    wrong = [(f"necessity ({DESTROYED[kind]})", DESTROYED[kind])]
    wrong += [(f"over-trust in {n}", n) for n in names if family_of(n, kind) in ("view", "edit")]
    wrong += [(f"over-trust in {n}", n) for n in names if n.startswith("swap") and n.endswith("other_answer")]
    for what, name in wrong:
        reference = reference_of(name, kind)
        if (name, 0) not in arms or (reference, 0) not in arms:
            continue
        pair = Paired(arms, (reference, name), replicates, seed)
        known = pair.share(1 - pair.values(name), pair.values(reference)) if pair else None
        if known is not None:
            found[what] = known
    if ("gt", 0) in arms:
        pair = Paired(arms, ("gt",), replicates, seed)
        given = np.array([float(name in reader and reader[name].correct) for name in pair.ids])
        what = "under-use (wrong from the truth where the reader is right)" if reader else "wrong from the truth"
        known = pair.share(1 - pair.values("gt"), given if reader else np.ones(len(pair.ids)))
        if known is not None:
            found[what] = known
    return found


def detectable(count: int, scenes: int, correlation: float = 0.1) -> list[tuple[float, float, float]]:
    """For shares of discordant pairs, the smallest difference of accuracy that is found with 80 % power at 5 %: if questions
    were independent, and if answers within a scene correlate. 2.8 standard errors of a paired difference (Connor 1987)."""
    inflation = 1 + max(0.0, count / max(1, scenes) - 1) * correlation
    shares = (0.05, 0.1, 0.2)
    return [(d, POWER * (d / count) ** 0.5, POWER * (d * inflation / count) ** 0.5) for d in shares]


def to_json(value: Any) -> Any:
    """Estimates and effects as JSON values; the bounds of an interval that is the whole line as null."""
    if isinstance(value, Estimate | Effect | Dose):
        return to_json(asdict(value) | ({"verdict": value.verdict} if isinstance(value, Effect) else {}))
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
