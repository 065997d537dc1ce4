"""What a study is, without torch: tasks, training modes (arms), seeds, and what is compared with what, fixed beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipt.common.settings import typed
from ipt.inference.prediction import MODES

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class StudyTask:
    """``seeds`` runs per arm with the ``overrides`` of train.py; its data are made by ``python -m datagen`` with the overrides
    ``datagen`` and so many ``rows`` per split."""

    seeds: int
    rows: dict[str, int]
    datagen: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arm:
    """A way to train: ``overrides`` of train.py, and the inference ``modes`` in which its models are asked. ``tasks``: those it is
    for (none: all). ``steps``: as a multiple of the study's."""

    overrides: tuple[str, ...]
    modes: tuple[str, ...]
    steps: float = 1.0
    about: str = ""
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if wrong := sorted(set(self.modes) - set(MODES)):
            raise ValueError(f"unknown modes of inference {', '.join(wrong)}; valid: {', '.join(MODES)}")


@dataclass(frozen=True)
class Contrast:
    """``arm`` in ``mode`` minus ``reference`` in ``reference_mode``, on ``task``."""

    task: str
    arm: str
    mode: str
    reference: str
    reference_mode: str = "answer_only"
    about: str = ""


@dataclass(frozen=True)
class Study:
    """``contrasts``: what is compared; the one named ``primary`` decides. ``data``: folder of the datasets. ``split``: what is answered after training, its first ``questions``; ``test`` only once
    everything is fixed. ``scale`` multiplies the seeds. ``workers`` runs go side by side, each on one thread; the k-th of them on
    ``devices[k % len(devices)]``. ``minutes``: stop after so long; the same command continues. ``timesteps`` of drawing.
    """

    tasks: dict[str, StudyTask] = field(default_factory=dict)
    arms: dict[str, Arm] = field(default_factory=dict)
    contrasts: dict[str, Contrast] = field(default_factory=dict)
    data: str = "outputs/study_data"
    split: str = "test"
    questions: int = 1000
    scale: int = 1
    workers: int = 2
    devices: tuple[str, ...] = ("cpu",)
    minutes: float | None = None
    timesteps: int = 13
    batch_size: int = 250

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"study.split must be one of {', '.join(SPLITS)}, got '{self.split}'")
        if min(self.scale, self.workers, self.questions) < 1 or not self.devices:
            raise ValueError("a study needs scale, workers and questions of at least 1, and a device")

    def dataset(self, task: str, split: str) -> Path:
        """The folder of a task's split."""
        return Path(self.data) / f"{task}-{split}"


@dataclass(frozen=True)
class Run:
    """One training of a study, and the evaluation after it. ``overrides``: all of them, for train.py."""

    task: str
    arm: str
    seed: int
    folder: Path
    overrides: tuple[str, ...] = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.task}-{self.arm}-{self.seed}"


def make_study(values: Mapping[str, Any]) -> Study:
    """A checked study from nested mappings. ``ValueError`` names what a contrast lacks."""
    study = typed(Study, values, "plan")
    for name, contrast in study.contrasts.items():
        for kind, wanted, known in (
            ("arm", contrast.arm, study.arms),
            ("arm", contrast.reference, study.arms),
        ):
            if wanted not in known:
                raise ValueError(f"contrast '{name}' names the {kind} '{wanted}'; the study has {', '.join(known)}")
    return study


def runs(study: Study, folder: Path, common: tuple[str, ...] = ()) -> list[Run]:
    """All runs, seed by seed, so that a study that is stopped has as many seeds of each arm."""
    found = []
    for seed in range(study.scale * max(task.seeds for task in study.tasks.values())):
        for name, task in study.tasks.items():
            for arm_name, arm in study.arms.items():
                if seed < study.scale * task.seeds and (not arm.tasks or name in arm.tasks):
                    found.append(_run(study, folder, common, name, arm_name, seed))
    return found


def _run(study: Study, folder: Path, common: tuple[str, ...], task: str, arm: str, seed: int) -> Run:
    own = folder / f"{task}-{arm}-{seed}"
    data = (f"data.train={study.dataset(task, 'train')}", "data.in_memory=true")
    seeds = tuple(f"{part}.seed={seed}" for part in ("trainer", "loader", "sequence"))
    chosen = (*study.tasks[task].overrides, *study.arms[arm].overrides)
    overrides = (*common, f"task={task}", *data, *chosen, *seeds, f"name={own.name}", f"output_dir={own}")
    return Run(task, arm, seed, own, overrides)
