"""``python -m ipt.study.demo``: the whole idea in minutes, on two cores: rooms, questions, a model that pictures the unseen view.

Makes a few samples of furnished homes to look at and a dataset of block rooms, trains `study=demo` on it from the small base that
draws (`ipt/base`), asks the model about rooms that it has not seen, and writes a page with checks of what should hold. A second
call reuses what is there.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ipt.common import cli
from ipt.common.files import write_bytes, write_json
from ipt.common.seeding import generator
from ipt.evaluation.comparison import compare
from ipt.evaluation.metrics import score
from ipt.evaluation.quality.similarity import CANDIDATES
from ipt.evaluation.tables import percent, span
from ipt.study.demo_page import Check, atlas, demo_page, drawn
from ipt.study.report import Findings, own_pictures

HOME = ("backend=embedded", "num_samples=6", "seed=7", "image_size=256", "workers=2")
CHANCE = 0.5


@dataclass(frozen=True)
class DemoConfig:
    """Run the demo in folder ``output_dir`` with two processes; ``train``: further overrides of train.py, separated by spaces."""

    output_dir: str = "outputs/demo"
    workers: int = 2
    train: str = ""


def demo(config: DemoConfig) -> None:
    """Everything, then the checks, which are findings: a demo that ran has exit code 0. Raises ``RuntimeError`` naming a command
    that failed."""
    output, started = Path(config.output_dir), time.monotonic()
    study = ["train.py", "study=demo", f"plan.workers={config.workers}", f"plan.data={output / 'data'}"]
    steps = [
        (f"draw a furnished home and questions about homes ({output / 'homes-*/gallery.html'})", *homes(output)),
        (
            "generate 3,500 questions about block rooms, train a model that imagines and a control side by side, and ask both "
            "about 500 questions of unseen rooms (about 8 minutes on two cores)",
            [*study, f"output_dir={output / 'study'}", *config.train.split()],
        ),
    ]
    print("Plan:", *(f"  {number}. {what}" for number, (what, *_) in enumerate(steps, start=1)), sep="\n")
    print(f"  {len(steps) + 1}. write {output / 'report.html'} and check what should hold", flush=True)
    for what, *commands in steps:
        print(f"\n== {what}", flush=True)
        for command in commands:
            run(command)
    findings = Findings(output / "study")
    checks = make_checks(findings)
    write_bytes(output / "report.html", demo_page(findings, checks).encode())
    if drawn(findings, 1):
        atlas(findings).save(output / "pictures.png")
    seconds = time.monotonic() - started
    write_json(output / "report.json", {"checks": [asdict(check) for check in checks], "seconds": seconds})
    for check in checks:
        print(f"{'pass' if check.passed else 'FAIL'}  {check.what}: {check.figure}")
    held = sum(check.passed for check in checks)
    print(f"\n{held} of {len(checks)} checks hold. Look at {output / 'report.html'} ({seconds / 60:.1f} minutes)")


def homes(output: Path) -> list[list[str]]:
    """Commands that make samples of furnished homes, with a page to answer them on."""
    commands = [["-m", "datagen.backends.embedded.show", "seed=9", f"output_dir={output}"]]
    for task in ("pet", "pt", "mvc"):
        data = output / f"homes-{task}"
        commands.append(["-m", "datagen", f"task={task}", *HOME, f"output_dir={data}"])
        commands.append(["-m", "datagen.gallery", f"data={data}"])
    return commands


def run(arguments: Sequence[str]) -> None:
    """A command of this project, with its output as it is."""
    command = [sys.executable, *arguments]
    if subprocess.run(command, check=False).returncode:
        raise RuntimeError(f"this command failed: {' '.join(command)}")


def make_checks(findings: Findings) -> list[Check]:
    """What should hold after training, each with its figure."""
    modes = ("answer_only", "imagination", "gt_imagination", "wrong_imagination")
    answers, own, truth, wrong = (findings.answers("pet", "imagining", mode, [0])[0] for mode in modes)
    reading, imagining = compare([wrong, truth])[0], compare([answers, own])[0]
    pictures = own_pictures(findings, "pet", "imagining", [0])[0]
    answered = score(answers.predictions, True, generator(0, "demo"))
    flow, control = (findings.of("pet", arm)[0]["validation"]["flow"] for arm in ("imagining", "control"))
    return [
        Check(
            "the asked view is learned: flow loss in unseen rooms below that of the control, whose views are of other rooms",
            f"{flow:.3f} against {control:.3f}",
            flow < control,
        ),
        Check(
            "answers read the picture: accuracy with the true view minus that with a wrong one is above zero",
            f"{100 * reading.difference:+.1f} points {span(reading.interval, signed=True)}",
            reading.interval is not None and reading.interval[0] > 0,
        ),
        Check(
            "pictures are better than the mean picture: PSNR against the true view",
            f"{pictures.own:.2f} dB against {pictures.mean:.2f}; {100 * pictures.found:.0f} % are nearest to their own truth "
            f"among {CANDIDATES}",
            pictures.own > pictures.mean,
        ),
        Check(
            "imagining helps: accuracy with the own picture minus that without one is not below zero",
            f"{100 * imagining.difference:+.1f} points {span(imagining.interval, signed=True)}",
            imagining.difference >= 0,
        ),
        Check(
            f"answers without a picture are above chance ({CHANCE:.0%})",
            f"{percent(answered.value)} % {span(answered.interval)}",
            answered.interval is not None and answered.interval[0] > CHANCE,
        ),
    ]


if __name__ == "__main__":
    cli.run(DemoConfig, demo)
