"""What a study is, without torch: tasks, training modes (arms), seeds, and what is compared with what, fixed beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipt.common.errors import UserError
from ipt.common.files import read_json
from ipt.common.settings import typed
from ipt.inference.prediction import MODES

SPLITS = ("train", "val", "test")
RESULT, PLAN = "result.json", "study.json"
TRANSFER = "transfer"  # rooms of another preset, in place of a split


@dataclass(frozen=True)
class StudyTask:
    """``seeds`` runs per arm with the ``overrides`` of train.py; its data are made by ``python -m datagen`` with the overrides
    ``datagen`` and so many ``rows`` per split. ``arms``: further overrides of some arms, which come last. ``rank``: tasks of
    lower rank come first. ``steps`` of an arm, where not the arm's own: as many tokens are other steps in another task.
    ``shift`` of drawing, in place of the study's; an arm's own goes before both. ``transfer``: what else ``datagen`` is told for
    rooms of another preset, about which every model is asked, too (so many ``rows`` of them, else as of the split)."""

    seeds: int
    rows: dict[str, int]
    rank: int = 0
    datagen: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    arms: dict[str, list[str]] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    shift: float | None = None
    transfer: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arm:
    """A way to train: ``overrides`` of train.py, and the inference ``modes`` in which its models are asked. ``tasks``: those it
    is for (none: all). ``rank``: arms of lower rank come first. ``steps``: as a multiple of the study's; 0 asks the model of
    ``after`` as it is. ``tokens_of``: as a multiple of those in which ``after`` was trained on as many tokens as these arms
    together.

    ``after``: an arm whose model is trained further, and whose imaginations of the training samples are the ``self`` of
    ``imagination.ipt.source``. ``votes`` of so many own imaginations answer together; ``timesteps`` and ``shift``: of drawing,
    where not the study's.
    """

    modes: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    steps: float = 1.0
    tokens_of: tuple[str, ...] = ()
    about: str = ""
    tasks: tuple[str, ...] = ()
    rank: int = 0
    after: str = ""
    votes: int = 1
    timesteps: int | None = None
    shift: float | None = None

    def __post_init__(self) -> None:
        if wrong := sorted(set(self.modes) - set(MODES)):
            raise UserError(f"unknown modes of inference {', '.join(wrong)}; valid: {', '.join(MODES)}")
        if self.votes < 1:
            raise UserError(f"votes must be at least 1, got {self.votes}")


@dataclass(frozen=True)
class Contrast:
    """``arm`` in ``mode`` minus ``reference`` in ``reference_mode``, on ``task``: about the study's split, or with ``transfer``
    about the task's other rooms."""

    task: str
    arm: str
    mode: str
    reference: str
    reference_mode: str = "answer_only"
    about: str = ""
    transfer: bool = False


@dataclass(frozen=True)
class Study:
    """``contrasts``: what is compared; the one named ``primary`` decides. ``data``: folder of the datasets. ``split``: what is
    answered after training, its first ``questions``; ``test`` only once everything is fixed. ``scale`` multiplies the seeds.

    ``workers`` runs go side by side, each on one thread; those of the arms ``cuda`` on the GPU. ``minutes``: stop after so long;
    the same command continues. ``timesteps`` and ``shift`` of drawing. ``validate``: compute losses on the answered split with
    every checkpoint.
    """

    tasks: dict[str, StudyTask] = field(default_factory=dict)
    arms: dict[str, Arm] = field(default_factory=dict)
    contrasts: dict[str, Contrast] = field(default_factory=dict)
    data: str = "outputs/study_data"
    split: str = "test"
    questions: int = 1000
    scale: int = 1
    workers: int = 2
    cuda: tuple[str, ...] = ()
    minutes: float | None = None
    timesteps: int = 13
    shift: float = 1.0
    validate: bool = False
    batch_size: int = 250

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UserError(f"study.split must be one of {', '.join(SPLITS)}, got '{self.split}'")
        if min(self.scale, self.workers, self.questions) < 1:
            raise UserError("a study needs scale, workers and questions of at least 1")

    def dataset(self, task: str, split: str) -> Path:
        """The folder of a task's split, or of its `TRANSFER`."""
        return Path(self.data) / f"{task}-{split}"

    def answered(self, task: str) -> tuple[str, ...]:
        """What the models of a task are asked about: the split, and other rooms where it has them."""
        return (self.split, TRANSFER) if self.tasks[task].transfer else (self.split,)


@dataclass(frozen=True)
class Run:
    """One training of a study, and the evaluation after it. ``overrides``: all of them, for train.py. ``steps``: as a multiple of
    theirs, or of those that `Arm.tokens_of` gives. ``after``, ``tokens_of``: the folders of runs that come before it."""

    task: str
    arm: str
    seed: int
    folder: Path
    overrides: tuple[str, ...] = field(repr=False)
    steps: float
    after: Path | None = None
    tokens_of: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.task}-{self.arm}-{self.seed}"

    @property
    def start(self) -> list[str]:
        """Overrides with which it goes on from ``after``."""
        return [] if self.after is None else [f"model.init={self.after / 'model'}", "model.codec=init"]

    @property
    def is_ready(self) -> bool:
        """Whether all that it needs is done."""
        return all((folder / RESULT).is_file() for folder in (self.after, *self.tokens_of) if folder is not None)

    def steps_of(self, steps: float) -> int:
        """The run's length, where train.py would take so many ``steps``."""
        if self.tokens_of and self.after is not None:
            wanted = sum(read_json(folder / RESULT)["tokens"] for folder in self.tokens_of)
            before = read_json(self.after / RESULT)
            steps = wanted * before["steps"] / before["tokens"]
        return round(self.steps * steps)


def make_study(values: Mapping[str, Any]) -> Study:
    """A checked study from nested mappings. ``ValueError`` names what a contrast lacks."""
    study = typed(Study, values, "plan")
    for name, contrast in study.contrasts.items():
        for wanted in (contrast.arm, contrast.reference):
            if wanted not in study.arms:
                raise UserError(f"contrast '{name}' names the arm '{wanted}'; the study has {', '.join(study.arms)}")
        if contrast.transfer and contrast.task in study.tasks and not study.tasks[contrast.task].transfer:
            raise UserError(f"contrast '{name}' is about other rooms: set plan.tasks.{contrast.task}.transfer")
    for name, task in study.tasks.items():
        for what, named in (("steps", task.steps), ("arms", task.arms)):
            if unknown := sorted(named.keys() - study.arms.keys()):
                known = ", ".join(study.arms)
                raise UserError(f"{what} of task '{name}' name the arm '{unknown[0]}'; the study has {known}")
    for name, arm in study.arms.items():
        for before in (*([arm.after] if arm.after else []), *arm.tokens_of):
            if before not in study.arms:
                raise UserError(f"arm '{name}' comes after '{before}'; the study has {', '.join(study.arms)}")
        if arm.tokens_of and not (arm.after and study.arms[arm.after].steps):
            raise UserError(f"tokens_of of arm '{name}' needs after: an arm that was trained, whose steps are counted")
    return study


def runs(study: Study, folder: Path, common: tuple[str, ...] = ()) -> list[Run]:
    """All runs by rank, then seed by seed, so that a study that is stopped has as many seeds of each arm."""
    found = []
    for seed in range(study.scale * max(task.seeds for task in study.tasks.values())):
        for name, task in study.tasks.items():
            for arm_name, arm in study.arms.items():
                if seed < study.scale * task.seeds and (not arm.tasks or name in arm.tasks):
                    found.append(_run(study, folder, common, name, arm_name, seed))
    return sorted(found, key=lambda run: study.tasks[run.task].rank + study.arms[run.arm].rank)


def _run(study: Study, folder: Path, common: tuple[str, ...], task: str, arm: str, seed: int) -> Run:
    own = folder / f"{task}-{arm}-{seed}"
    data = [f"data.train={study.dataset(task, 'train')}", "data.in_memory=true"]
    if study.validate:
        data.append(f"data.validation={study.dataset(task, study.split)}")
    chosen = (*study.tasks[task].overrides, *study.arms[arm].overrides, *study.tasks[task].arms.get(arm, ()))
    overrides = (*common, f"task={task}", *data, *chosen, f"seed={seed}", f"name={own.name}", f"output_dir={own}")
    after = study.arms[arm].after
    steps = study.tasks[task].steps.get(arm, study.arms[arm].steps)
    trained = folder / f"{task}-{after}-{seed}" if after else None
    others = tuple(folder / f"{task}-{other}-{seed}" for other in study.arms[arm].tokens_of)
    return Run(task, arm, seed, own, overrides, steps, trained, others)


def results(folder: Path) -> list[dict[str, Any]]:
    """The results of the runs that are done, in the order of the plan."""
    names = read_json(folder / PLAN)["runs"]
    return [read_json(folder / name / RESULT) for name in names if (folder / name / RESULT).is_file()]
