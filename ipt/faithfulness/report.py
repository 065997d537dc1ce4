"""From settings to the card: answers what is missing, computes every figure, says what may be concluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ipt.common.files import write_bytes, write_json
from ipt.common.statistics import Estimate
from ipt.evaluation.metrics import clusters
from ipt.evaluation.tables import aligned, percent, span
from ipt.faithfulness.card import Shown, render
from ipt.faithfulness.dependence import Dependence, Pairs, dependence, minimal_pairs, sensitivity
from ipt.faithfulness.effects import (
    Dose,
    Effect,
    Results,
    all_effects,
    derived,
    detectable,
    doses,
    guards,
    mediation,
    steering,
    telescope,
    to_json,
    trust,
)
from ipt.faithfulness.interventions import DESTROYED
from ipt.faithfulness.pool import Pool
from ipt.faithfulness.probes import Probes, probed
from ipt.faithfulness.runs import (
    ABSENT,
    BASELINE,
    DERIVED,
    MEDIATION,
    NONE,
    PAIRED,
    PAIRS,
    SELF,
    Experiment,
    experiments,
    read_arms,
)
from ipt.faithfulness.settings import FaithfulnessConfig
from ipt.faithfulness.uncertainty import Uncertainty, uncertainty
from ipt.inference.prediction import Prediction, about, read_run

PAGE, FIGURES = "card.html", "card.json"
#: The cosine from which on mediators count as nearly the same.
SAME = 0.9


@dataclass(frozen=True)
class Findings:
    """All figures of one checkpoint; ``arms``: names in the order of the card."""

    label: str
    kind: str
    checkpoint: str
    arms: tuple[str, ...]
    questions: int
    scenes: int
    accuracy: Mapping[str, Estimate]
    guards: Sequence[str]
    effects: Sequence[Effect]
    telescope: Mapping[str, Estimate]
    mediation: Mapping[str, Estimate]
    steering: Mapping[str, Estimate]
    derived: Mapping[str, Estimate]
    doses: Sequence[Dose]
    trust: Mapping[str, Estimate]
    dependence: Dependence | None
    moved_by_inputs: float | None
    pairs: Pairs | None
    uncertainty: Uncertainty | None
    probes: Probes | None
    conclusions: Sequence[str]


def write_card(config: FaithfulnessConfig) -> str:
    """Answer what is missing, write the card, and say what is on it."""
    runs = list(experiments(config))
    baseline = runs.pop() if config.baseline else None
    if baseline is not None:
        baseline[1].at_once()
    return card_of(config, runs, baseline[1] if baseline is not None else None)


def card_of(config: FaithfulnessConfig, runs: Sequence[tuple[str, Experiment]], baseline: Experiment | None) -> str:
    """The card of experiments, which are brought to their end first; arms of earlier commands are on it, too."""
    findings, shown = [], []
    for label, experiment in runs:
        found, pool = investigate(config, label, experiment, experiment.run(), baseline)
        findings.append(found)
        shown.append(gallery(experiment, pool, found.arms, config.gallery))
    folder = Path(config.output_dir)
    about = {"data": config.data, "preset": config.preset, "treatment": config.treatment, "seeds": config.seeds,
             "replicates": config.replicates, "margin": config.margin}  # fmt: skip
    write_json(folder / FIGURES, {**about, "checkpoints": to_json(findings)})
    write_bytes(folder / PAGE, render(findings, shown, about).encode())
    lines = [line for each in findings for line in (f"{each.label}:", *(f"  {words}" for words in each.conclusions))]
    return "\n".join([*lines, f"{folder / PAGE}, figures in {folder / FIGURES}"])


def investigate(
    config: FaithfulnessConfig, label: str, experiment: Experiment, names: Sequence[str], baseline: Experiment | None
) -> tuple[Findings, Pool]:
    arms: dict[tuple[str, int], dict[str, Prediction]] = read_arms(experiment.root)
    earlier = {arm for arm, _ in arms} - {SELF, NONE, ABSENT, *MEDIATION, *DERIVED, *PAIRED}
    names = [*names, *sorted(earlier - {*names})]
    if baseline is not None:
        arms[BASELINE, 0] = read_arms(baseline.root)[NONE, 0]
    kind = experiment.kind
    results = Results(arms, names, kind, config.replicates, config.seed, config.margin)
    pool = experiment.pool(SELF, config.imaginations)
    effects = all_effects(results)
    reader = {} if config.reader is None else {p.sample_id: p for p in read_run(config.reader).predictions}
    depends, diversity = dependence(pool, kind)
    own, probes = list(arms[SELF, 0].values()), probed(experiment, pool) if config.hidden else None
    figures: dict[str, Any] = {
        "effects": effects,
        "telescope": telescope(results),
        "mediation": mediation(results),
        "steering": steering(results, pool),
        "derived": derived(results),
        "doses": doses(results),
        "trust": trust(results, reader),
        "pairs": minimal_pairs(
            pool,
            kind,
            {role: experiment.pool(PAIRED[PAIRS.index(role)], 1) for role in experiment.paired_roles()},
            config.replicates,
        ),
    }
    return Findings(
        label=label,
        kind=kind,
        checkpoint=experiment.base.checkpoint,
        arms=tuple(names),
        questions=len(own),
        scenes=len(set(clusters(own))),
        accuracy=accuracies(results),
        guards=guards(effects, results, sum(pool.made(name, 0) is None for name in pool.about)),
        dependence=depends,
        moved_by_inputs=moved(experiment, pool, kind),
        uncertainty=uncertainty(results, diversity),
        probes=probes,
        conclusions=[
            *conclusions(figures, kind, config.margin),
            *(capimagine(figures, kind, depends, probes) if config.preset == "capimagine" else ()),
        ],
        **figures,
    ), pool


def accuracies(results: Results) -> dict[str, Estimate]:
    """The accuracy of every run, never of the best of several."""
    pairs = {name: results.paired(name) for name in (BASELINE, NONE, SELF, *results.names, *MEDIATION)}
    return {name: pair.estimate(pair.values(name)) for name, pair in pairs.items() if pair is not None}


def moved(experiment: Experiment, pool: Pool, kind: str) -> float | None:
    """How far imaginations move when the treatment takes their inputs away (`sensitivity`)."""
    if experiment.config.treatment == "none":
        return None
    absent = experiment.pool(ABSENT, 1)
    pairs = [(pool.made(name, 0), absent.made(name, 0)) for name in pool.about]
    known = [(own, other) for own, other in pairs if own is not None and other is not None]
    return sensitivity(known, kind, pool.subject.picture)


def conclusions(figures: Mapping[str, Any], kind: str, margin: float) -> list[str]:
    """What the figures allow to say, and what they do not."""
    by_arm = {each.arm: each for each in figures["effects"]}
    points, found = f"{100 * margin:g} points", []
    destroyed = by_arm.get(DESTROYED[kind])
    if destroyed is not None:
        about = f"{change(destroyed.accuracy)} points of accuracy"
        still = f"The content of the {kind} is decoration: without it ({destroyed.arm}) accuracy stays within {points} ({about})."
        unknown = (
            f"Whether the content of the {kind} is read cannot be said: {destroyed.arm} changes {about}; more questions are "
            f"needed to show an effect or to rule out one of {points}."
        )
        said = {
            "lower": f"The content of the {kind} is read: without it ({destroyed.arm}) answers lose ({about}).",
            "higher": f"The content of the {kind} harms: without it ({destroyed.arm}) answers gain ({about}).",
            "no effect": still,
            "bit for bit the same": f"The {kind} is decoration: {destroyed.arm} in its place moves no probability of any of "
            f"{destroyed.accuracy.count} questions.",
        }
        found.append(said.get(destroyed.verdict, unknown))
    steered = {name: each for name, each in figures["steering"].items() if not each.includes(0.0)}
    if steered:
        name, most = max(steered.items(), key=lambda item: item[1].value)
        verb = "follow" if most.value > 0 else "move away from"
        found.append(f"Answers {verb} what the {kind} says: {name} brings the answer that it asks for {change(most)} points more "
                     "often than a mediator without content.")  # fmt: skip
    elif figures["steering"]:
        found.append(f"No arm that asks for another answer gets it more often than a {kind} without content does.")
    truth = by_arm.get("gt")
    if truth is not None and truth.verdict == "higher":
        found.append(f"Better {kind}s would help: from the truth, answers gain {change(truth.accuracy)} points.")
    terms = figures["telescope"]
    if "training" in terms:
        parts = ", ".join(f"{name} {change(terms[name])}" for name in ("training", "presence", "content"))
        found.append(f"Of the gain over the baseline ({change(terms['total'])} points): {parts}.")
    pairs = figures["pairs"]
    if pairs is not None and pairs.selectivity is not None:
        found.append(
            f"What is missing in the inputs moves the {kind} {pairs.selectivity.value:.2f} "
            f"[{pairs.selectivity.low:.2f}, {pairs.selectivity.high:.2f}] times as far if it is what is asked about."
        )
    share = figures["mediation"].get("PM")
    if share is not None:
        found.append(
            f"{percent(share.value)} % of the effect of the inputs go through the {kind} {span((share.low, share.high))}."
        )
    elif figures["mediation"]:
        found.append(
            "The inputs have no effect on accuracy that could be told from chance: no share of it is reported."
        )
    return found


def capimagine(figures: Mapping[str, Any], kind: str, depends: Dependence | None, probes: Probes | None) -> list[str]:
    """The three findings of arXiv 2602.22766, each with what was found here."""
    alike = f"{kind}s are too few to be compared."
    if depends is not None:
        mean, true = float(np.mean(depends.cosine)), float(np.mean(depends.true_cosine))
        slots = f" (by slot {' / '.join(f'{each:.3f}' for each in depends.cosine)})" if len(depends.cosine) > 1 else ""
        much = "nearly the same whatever the question" if mean >= max(SAME, true) else "not the same for all questions"
        alike = (
            f"{kind}s are {much}: cosine {mean:.3f}{slots} between questions, {true:.3f} between their truths, "
            f"{depends.similarity:+.3f} once centred (the paper: .9 to 1 for latents, .2 to .4 for captions)."
        )
    destroyed = [each for each in figures["effects"] if each.family == "destroy"]
    # that answers fall where nothing is there at all is presence, not content
    verdicts = {each.verdict for each in destroyed if each.arm.removeprefix("gt.") != "empty"}
    carried = "cannot be said to be read or not"
    if "lower" in verdicts:
        carried = "is read"
    elif verdicts and verdicts <= {"no effect", "bit for bit the same"}:
        carried = "is decoration"
    changes = ", ".join(f"{each.arm} {change(each.accuracy)} ({each.verdict})" for each in destroyed)
    told = "there are no derived questions (they are made of facts of perspective-taking samples, with treatment=blank or other)"
    if derived := figures["derived"]:
        shares = {name: f"{percent(each.value)} % {span((each.low, each.high))}" for name, each in derived.items()}
        told = (
            f"of {derived['from its own'].count} derived questions, with the inputs hidden, {shares['from its own']} are "
            f"answered rightly from the {kind}, {shares['without content']} from one without content, "
            f"{shares['from the truth']} from the truth"
        )
    added = [f"{each.target} {change(each.added)}" for each in (probes.probes if probes is not None else ())]
    linear = f"; linear probes gain from it, over the inputs: {', '.join(added)}" if added else ""
    return [
        f"X to Z: {alike}",
        f"Z to Y: the {kind} {carried}, in points of accuracy: {changes} (the paper: -1.0 to +0.5 for latents).",
        f"Probing: {told}{linear} (the paper: less than by guessing from latents, 76.7 % from the image).",
    ]


def change(estimate: Estimate) -> str:
    return f"{100 * estimate.value:+.1f} {span((estimate.low, estimate.high), True)}"


def gallery(experiment: Experiment, pool: Pool, names: Sequence[str], count: int) -> list[Shown]:
    """The first questions, with what every arm put before the answer and what came of it."""
    shown = []
    rows = [name for name in pool.rows if name in pool.about][:count]
    runs = {
        name: (experiment.folder(name, 0), read_arms_one(experiment.folder(name, 0))) for name in (NONE, SELF, *names)
    }
    for name in rows:
        answers = [(arm, folder, run[name]) for arm, (folder, run) in runs.items() if name in run]
        shown.append(Shown(experiment.data[pool.rows[name]], tuple(answers)))
    return shown


def read_arms_one(folder: Path) -> dict[str, Prediction]:
    return {p.sample_id: p for p in read_run(folder).predictions} if folder.is_dir() else {}


def plan(config: FaithfulnessConfig) -> str:
    """What would be asked, and the smallest effects that this can show; nothing is written."""
    lines = []
    for label, experiment in experiments(config):
        data = experiment.data
        if not experiment.kind:
            lines.append(f"{label}: baseline, {len(data)} questions answered at once")
            continue
        samples = [about(data[row], "plan") for row in range(len(data))]
        scenes = len(set(clusters(samples)))
        arms = experiment.arms()
        mediated = 0 if config.treatment == "none" else 1 + len(MEDIATION)
        runs = 1 + config.imaginations + config.seeds * (len(arms) + mediated) + len(experiment.paired_roles())
        lines += [
            f"{label}: {len(data)} questions in {scenes} scenes, {experiment.kind} as mediator",
            f"  {config.imaginations} imaginations each, {len(arms)} arms on {config.seeds} of them: "
            f"{runs * len(data):,} answers",
            f"  arms: {', '.join(map(str, arms))}",
            "  smallest difference of accuracy found with 80 % power, two-sided 5 %:",
        ]
        table = [["share of answers that differ", "questions independent", "correlation 0.1 within scenes"]]
        table += [
            [f"{d:.0%}", *(f"{100 * each:.1f} points" for each in found)] for d, *found in detectable(len(data), scenes)
        ]
        lines += [f"    {line}" for line in aligned(table).splitlines()]
    return "\n".join(lines)
