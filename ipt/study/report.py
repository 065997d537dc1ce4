"""``python -m ipt.study.report study=outputs/small_scale output_dir=docs``: what a study found, as Markdown and JSON.

Everything is a function of the runs' folders (or of those that `ipt.study.collect.unpack` lays out) and of the dataset: an
accuracy is the mean over seeds, its interval that of resampling seeds and scenes together; a difference is paired by seed and
question (`ipt.evaluation.seeds`).
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipt.common import cli
from ipt.common.files import read_json, write_bytes, write_json
from ipt.common.images import decode_image
from ipt.common.seeding import generator
from ipt.evaluation.comparison import compare
from ipt.evaluation.metrics import evaluate
from ipt.evaluation.quality.pictures import resized
from ipt.evaluation.quality.similarity import CANDIDATES, PictureScores, mean_scores, scored, sheet
from ipt.evaluation.seeds import SeedScore, over_seeds
from ipt.evaluation.tables import percent, span
from ipt.inference.prediction import Run as Answers
from ipt.inference.prediction import read_run
from ipt.samples.sample import SampleImage
from ipt.samples.store import SampleReader
from ipt.study.settings import PLAN, TRANSFER, Study, make_study, results

MODES = ("answer_only", "imagination", "gt_imagination", "wrong_imagination")
DRAWING = "imagination"
COLUMNS = 10
INTERVALS = (
    "Brackets: 95 % from resampling seeds and scenes together, which covers too little with two or three seeds (about 80 % with "
    "two that scatter by 3 points), then the t interval over seeds, which covers; with one seed, 95 % over scenes."
)
#: Differences of two modes of one training: what its own imagination gains, and whether answers read the picture.
GAINS = (("imagination", "answer_only"), ("gt_imagination", "wrong_imagination"))


@dataclass
class ReportConfig:
    """Tell what a study found. data: folder of its datasets, if not where the study says. intro: a Markdown file to begin with.

    Writes output_dir/NAME.md, NAME being that of the study's folder, every figure to a JSON file beside it, pictures to images/.
    """

    study: str
    output_dir: str
    data: str = ""
    intro: str = ""


class Findings:
    """The answers of a study by task, arm, mode and seed, read once. With a single seed, intervals are over scenes alone."""

    def __init__(self, folder: Path, data: str = "") -> None:
        about = read_json(folder / PLAN)
        study = make_study(about["plan"])
        order = dict.fromkeys(name.split("-")[1] for name in about["runs"])  # JSON has sorted the plan
        study = replace(study, arms={name: study.arms[name] for name in order})
        self.study: Study = replace(study, data=data) if data else study
        self.folder, self.results = folder, results(folder)
        self._answers: dict[Path, Answers] = {}

    def seeds(self, task: str, arm: str) -> list[int]:
        """The seeds that are done."""
        return sorted(r["seed"] for r in self.results if (r["task"], r["arm"]) == (task, arm))

    def of(self, task: str, arm: str) -> list[dict[str, Any]]:
        return [r for r in self.results if (r["task"], r["arm"]) == (task, arm)]

    def answers(self, task: str, arm: str, mode: str, seeds: Iterable[int], of: str = "") -> list[Answers]:
        """The runs of inference, one per seed; ``of`` the study's split where nothing else is named."""
        found = []
        for seed in seeds:
            path = self.folder / f"{task}-{arm}-{seed}" / "answers" / (of or self.study.split) / mode
            if path not in self._answers:
                self._answers[path] = read_run(path)
            found.append(self._answers[path])
        return found

    def score(self, task: str, arm: str, mode: str) -> SeedScore | None:
        """An accuracy over the seeds that are done; None where there is none."""
        seeds = self.seeds(task, arm)
        if not seeds or mode not in self.study.arms[arm].modes:
            return None
        found = self.answers(task, arm, mode, seeds)
        score = over_seeds(found)[0]
        if len(seeds) > 1:
            return score
        (alone,) = evaluate(found[0].predictions).tasks
        return replace(score, both=alone.overall.interval)

    def difference(
        self, task: str, arm: str, mode: str, reference: str, reference_mode: str, of: str = ""
    ) -> SeedScore | None:
        """The first minus the second, on the seeds that both have; None without any, or where one was not asked in its mode."""
        if mode not in self.study.arms[arm].modes or reference_mode not in self.study.arms[reference].modes:
            return None
        both = sorted({*self.seeds(task, arm)} & {*self.seeds(task, reference)})
        if not both:
            return None
        own, other = (self.answers(task, *pair, both, of) for pair in ((arm, mode), (reference, reference_mode)))
        score = over_seeds(own, other)[0]
        return score if len(both) > 1 else replace(score, both=compare([other[0], own[0]])[0].interval)


def report(config: ReportConfig) -> Path:
    """Write the Markdown and the JSON; the Markdown's path."""
    findings, output = (
        Findings(Path(config.study), config.data),
        Path(config.output_dir) / f"{Path(config.study).resolve().name}.md",
    )
    values: dict[str, Any] = {"study": config.study, "plan": read_json(Path(config.study) / PLAN)}
    parts = [Path(config.intro).read_text()] if config.intro else []
    for task in findings.study.tasks:
        if not any(r["task"] == task for r in findings.results):
            continue
        text, values[task] = task_report(findings, task, output.parent / "images" / f"{output.stem}_{task}.png")
        parts.append(text)
    text, values["contrasts"] = contrasts(findings)
    parts.append(text)
    write_bytes(output, "\n".join(parts).encode())
    write_json(output.with_suffix(".json"), json.loads(json.dumps(values, default=str)))
    return output


def task_report(findings: Findings, task: str, sheet_path: Path) -> tuple[str, dict[str, Any]]:
    """Accuracies, differences to label_only, pictures and costs of a task."""
    study = findings.study
    values: dict[str, Any] = {}
    rows, values["accuracy"], values["gains"] = [], {}, {}
    for arm in study.arms:
        scores = {mode: findings.score(task, arm, mode) for mode in MODES}
        values["accuracy"][arm] = {mode: asdict(score) for mode, score in scores.items() if score}
        if any(scores.values()):
            seeds = len(findings.seeds(task, arm))
            gains = [findings.difference(task, arm, mode, arm, reference_mode) for mode, reference_mode in GAINS]
            values["gains"][arm] = [asdict(gain) if gain else None for gain in gains]
            cells = [*(cell(score) for score in scores.values()), *(cell(gain, signed=True) for gain in gains)]
            rows.append([arm, str(seeds), *cells, study.arms[arm].about])
    every = (findings.score(task, arm, mode) for arm in study.arms for mode in study.arms[arm].modes)
    first = next(score for score in every if score)
    lines = [
        f"## {task.upper()}: {first.count} questions of {first.scenes} scenes of the {study.split} split",
        "",
        *blind(study, task, values),
        INTERVALS,
        "",
        table(["training", "seeds", *map(spaced, MODES), "own - answer only", "truth - wrong", ""], rows),
    ]
    rows, values["against_label_only"] = [], {}
    for arm in study.arms:
        pair = [findings.difference(task, arm, "answer_only", r, "answer_only") for r in REFERENCES if r in study.arms]
        values["against_label_only"][arm] = [asdict(score) if score else None for score in pair]
        if any(pair) and arm not in REFERENCES[:1]:
            rows.append([arm, *(cell(score, signed=True) for score in pair)])
    if rows:
        lines += ["Answer-only minus label_only, paired by seed and question:", ""]
        lines.append(table(["training", "at equal steps", "at equal compute"], rows))
    text, values["pictures"] = pictures(findings, task, sheet_path)
    cost_text, values["cost"] = costs(findings, task)
    return "\n".join([*lines, text, cost_text]), values


REFERENCES = ("label_only", "label_only_compute")


def blind(study: Study, task: str, values: dict[str, Any]) -> list[str]:
    """What answers without looking reach, where the split was audited (``python -m datagen.audit``)."""
    path = study.dataset(task, study.split) / "audit.json"
    if not path.is_file():
        return []
    audited = read_json(path)["tasks"][task]
    values["blind"] = audited["baselines"]
    rows = {name: row for name, row in values["blind"].items() if row["bar"]}  # the others see what tells the answer
    text = [f"{name} {row['value']:.1%} [{row['low']:.1%}, {row['high']:.1%}]" for name, row in rows.items()]
    return [f"Blind baselines (chance {audited['chance']:.1%}): {'; '.join(text)}.", ""]


def pictures(findings: Findings, task: str, sheet_path: Path) -> tuple[str, dict[str, Any]]:
    """How near imagined pictures are to the truth, against the mean picture and the truth of other scenes; and a sheet of some of
    seed 0, with the input on top and the truth below."""
    study = findings.study
    reader = SampleReader(study.dataset(task, study.split))
    truth = {sample.id: sample.imagination for sample in reader}
    lines_of, values, shown = [], {}, {}
    for arm in study.arms:
        found = own_pictures(findings, task, arm, findings.seeds(task, arm)) if draws(study, arm) else []
        if found:
            shown[arm] = findings.answers(task, arm, DRAWING, findings.seeds(task, arm)[:1])[0]
            values[arm] = asdict(mean_scores(found))
            lines_of.append([arm, str(len(found)), *mean_scores(found).cells()])
    if not lines_of:
        return "", values
    header = ["training", "seeds", *PictureScores.header()]
    inputs = {sample.id: sample.images[0] for sample in reader}
    files = {
        arm: {p.sample_id: run.folder / p.images[0] for p in run.predictions if p.images} for arm, run in shown.items()
    }
    common = sorted(set.intersection(*(set(each) for each in files.values())))
    chosen = common[:: max(len(common) // COLUMNS, 1)][:COLUMNS]
    own = [[each[name].read_bytes() for each in files.values()] for name in chosen]
    columns = [[inputs[name].data, *drawings, truth[name].data] for name, drawings in zip(chosen, own, strict=True)]
    sheet_path.parent.mkdir(parents=True, exist_ok=True)
    sheet(columns).save(sheet_path)
    text = f"![Rows: the input; what {', '.join(files)} imagined; the truth](images/{sheet_path.name})\n\n"
    return "Imagined pictures (PSNR in dB, higher is better):\n\n" + table(header, lines_of) + text, values


def own_pictures(findings: Findings, task: str, arm: str, seeds: Sequence[int]) -> list[PictureScores]:
    """How near the pictures of an arm's trainings come to the truth, one score each: those that drew enough of them."""
    study = findings.study
    truth = {sample.id: sample.imagination for sample in SampleReader(study.dataset(task, study.split))}
    mean = mean_picture(study.dataset(task, "train"))
    found = []
    for run in findings.answers(task, arm, DRAWING, seeds):
        drawn = [run.folder / prediction.images[0] for prediction in run.predictions if prediction.images]
        scenes = Counter(prediction.scene for prediction in run.predictions if prediction.images)
        enough = len(drawn) - max(scenes.values(), default=0) >= CANDIDATES - 1
        if enough and all(path.is_file() for path in drawn):  # archives may lack some
            found.append(picture_scores(run, truth, mean, generator(0, "pictures", task)))
    return found


def draws(study: Study, arm: str) -> bool:
    return DRAWING in study.arms[arm].modes


@functools.cache
def mean_picture(folder: Path) -> np.ndarray[Any, Any] | None:
    """The mean of all true imaginations of a dataset, [H, W, 3] in 0..255; none where an archive left it out."""
    if not folder.is_dir():
        return None
    total, count = np.zeros(1), 0
    for sample in SampleReader(folder):
        total, count = total + sample.imagination.pixels(), count + 1
    return total / count


def costs(findings: Findings, task: str) -> tuple[str, dict[str, Any]]:
    """What training and answering took."""
    rows, values = [], {}
    for arm in findings.study.arms:
        done = findings.of(task, arm)
        if not done:
            continue
        tokens = np.mean([r["tokens"] for r in done])
        seconds = np.mean([r["cpu_seconds"]["training"] for r in done])
        per_answer = {
            mode: np.mean(
                [
                    p.seconds
                    for run in findings.answers(task, arm, mode, findings.seeds(task, arm))
                    for p in run.predictions
                ]
            )
            for mode in findings.study.arms[arm].modes
        }
        text = "; ".join(f"{spaced(mode)} {1000 * value:.0f}" for mode, value in per_answer.items())
        samples = done[0]["samples"]
        rows.append(
            [
                arm,
                f"{done[0]['steps']:,}",
                f"{tokens / max(samples, 1):.0f}",
                f"{tokens / 1e6:.1f}",
                f"{seconds:.0f}",
                text,
            ]
        )
        values[arm] = {"tokens": tokens, "cpu_seconds": seconds, "seconds_per_answer": per_answer}
    header = [
        "training",
        "steps",
        "tokens per sample",
        "million tokens",
        "CPU-s of training",
        "ms per answer, 250 at a time",
    ]
    return "Cost, mean over seeds:\n\n" + table(header, rows), values


def contrasts(findings: Findings) -> tuple[str, dict[str, Any]]:
    """The comparisons that the plan names, the primary one first."""
    rows, values = [], {}
    for name, c in findings.study.contrasts.items():
        of = TRANSFER if c.transfer else ""
        score = findings.difference(c.task, c.arm, c.mode, c.reference, c.reference_mode, of)
        if score is None:
            continue
        values[name] = {"contrast": asdict(c), **asdict(score)}
        what = f"{c.arm} {c.mode} - {c.reference} {c.reference_mode}".replace("_imagination", "")
        each = " ".join(f"{100 * value:+.1f}" for value in score.values)
        rows.append(
            [
                name,
                f"{c.task}, other rooms" if c.transfer else c.task,
                what,
                f"{100 * score.value:+.1f}",
                span(score.seeds, True),
                span(score.both, True),
                each,
                c.about,
            ]
        )
    header = ["", "task", "difference", "points", "95% by seed", "95% by seed and scene", "each seed", "question"]
    return "## Comparisons fixed beforehand\n\n" + table(header, rows), values


def spaced(mode: str) -> str:
    return mode.replace("_", " ")


def cell(score: SeedScore | None, signed: bool = False) -> str:
    """A score with its interval over seeds and scenes, and with that over seeds."""
    if score is None:
        return ""
    value = f"{100 * score.value:+.1f}" if signed else percent(score.value)
    intervals = [span(each, signed) for each in (score.both, score.seeds) if each is not None]
    return " ".join([value, *intervals])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, with an empty line after it."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def picture_scores(
    run: Answers, truth: Mapping[str, SampleImage], mean: NDArray[Any] | None, rng: np.random.Generator
) -> PictureScores:
    """The scores of a run that drew pictures; ``truth`` by sample id, ``mean`` of training pictures. Truths of other scenes are
    drawn by ``rng``; ``UserError`` where there are not enough."""
    drawn = [prediction for prediction in run.predictions if prediction.images]
    imagined = np.stack([decode_image(run.folder / p.images[0]) for p in drawn]).astype(np.float64)
    size = imagined.shape[2], imagined.shape[1]  # a dataset's pictures may be larger than those that are drawn
    own = np.stack([resized(truth[p.sample_id].pixels(), size) for p in drawn]).astype(np.float64)
    if mean is not None:
        mean = resized(np.rint(mean).astype(np.uint8), size).astype(np.float64)
    return scored(imagined, own, mean, [p.scene for p in drawn], rng)


if __name__ == "__main__":
    cli.run(ReportConfig, lambda config: print(report(config)))
