"""What a study consists of: its runs in order, and the mistakes that are told before anything is trained."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import train as command
from ipt.common.files import write_json
from ipt.common.locking import FolderInUse, held
from ipt.imagination.recipe import Recipe, load_profile
from ipt.samples.store import SampleReader
from ipt.study.run import drawing, make_data, run_study
from ipt.study.settings import Study, make_study, runs
from ipt.training.config import train_config

ARM = {"modes": ["answer_only"]}
#: Every study that has arms, but for that of reinforcement, whose runs begin with the recipes of others.
STUDIES = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "conf/study").glob("*.yaml")
    if "\n  arms:" in path.read_text() and path.stem != "grpo"
)


def plan(**changes: Any) -> dict[str, Any]:
    rows = {"train": 8, "val": 4, "test": 4}
    tasks = {"pet": {"seeds": 3, "rows": rows}, "pt": {"seeds": 1, "rows": rows, "rank": 2}}
    arms = {"a": ARM, "late": {**ARM, "rank": 1}, "pt_only": {**ARM, "tasks": ["pt"]}}
    return {"tasks": tasks, "arms": arms, **changes}


def test_runs_come_by_rank_then_by_seed_each_once_and_scale_multiplies_the_seeds() -> None:
    listed = runs(make_study(plan()), Path("x"))
    assert [run.name for run in listed] == [
        "pet-a-0", "pet-a-1", "pet-a-2", "pet-late-0", "pet-late-1", "pet-late-2", "pt-a-0", "pt-pt_only-0", "pt-late-0",
    ]  # fmt: skip
    twice = Counter((run.task, run.arm) for run in runs(make_study(plan(scale=2)), Path("x")))
    assert twice == {key: 2 * count for key, count in Counter((run.task, run.arm) for run in listed).items()}


def test_an_arm_draws_with_its_own_shift_else_that_of_the_task_else_that_of_the_study() -> None:
    made = plan(shift=2.0)
    made["tasks"]["pt"]["shift"] = 4.0
    made["arms"] = {**made["arms"], "own": {**ARM, "shift": 3.0}}
    study = make_study(made)
    shifts = {(task, arm): drawing(study, task, arm).shift for task in ("pet", "pt") for arm in ("a", "own")}
    assert shifts == {("pet", "a"): 2.0, ("pt", "a"): 4.0, ("pet", "own"): 3.0, ("pt", "own"): 3.0}


def test_an_arm_may_take_other_steps_in_a_task() -> None:
    made = plan()
    made["tasks"]["pt"]["steps"] = {"a": 1.5}
    assert {run.name: run.steps for run in runs(make_study(made), Path("x")) if run.arm == "a" and not run.seed} == {
        "pet-a-0": 1.0,
        "pt-a-0": 1.5,
    }
    made["tasks"]["pt"]["steps"] = {"b": 1.5}
    with pytest.raises(ValueError, match="steps of task 'pt' name the arm 'b'"):
        make_study(made)


def test_other_rooms_are_those_of_the_split_made_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(data=str(tmp_path), split="val")
    made["tasks"]["pt"] |= {"datagen": ["seed=3", "task.a=1"], "transfer": ["task.a=2"]}
    made["tasks"]["pet"] |= {"transfer": ["task.b=1"], "rows": {"train": 8, "val": 4, "transfer": 2}}
    commands: list[list[str]] = []
    monkeypatch.setattr("ipt.study.run.subprocess.run", lambda command, **_: commands.append(command[3:]))
    study = make_study(made)
    make_data(study)
    assert [study.answered(task) for task in ("pet", "pt")] == [("val", "transfer")] * 2
    told = {command[-2].partition("=")[2].removeprefix(f"{tmp_path}/"): command[:-2] for command in commands}
    assert told["pt-val"] == ["seed=3", "task.a=1", "task=pt", "split=val", "num_samples=4"]
    assert told["pt-transfer"] == ["seed=3", "task.a=1", "task.a=2", "task=pt", "split=val", "num_samples=4"]
    assert told["pet-transfer"] == ["task.b=1", "task=pet", "split=val", "num_samples=2"] and len(told) == 6


def test_an_arm_may_train_on_as_many_tokens_as_others_together(tmp_path: Path) -> None:
    """At 250 tokens a step, 900 of them are 3.6 steps; it waits until these arms are done."""
    control = {**ARM, "after": "a", "tokens_of": ["late", "pt_only"]}
    made = plan()
    made["arms"] |= {"control": control, "twice": {**control, "steps": 2}}
    found = {run.arm: run for run in runs(make_study(made), tmp_path) if run.task == "pt"}
    for arm, steps, tokens in (("a", 4, 1000), ("late", 7, 600), ("pt_only", 9, 300)):
        assert not found["control"].is_ready
        write_json(found[arm].folder / "result.json", {"steps": steps, "tokens": tokens})
    assert found["control"].is_ready and found["a"].is_ready
    assert [found[arm].steps_of(100) for arm in ("a", "control", "twice")] == [100, 4, 7]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"contrasts": {"c": {"task": "pet", "arm": "b", "mode": "answer_only", "reference": "a"}}},
            "names the arm 'b'",
        ),
        ({"arms": {"a": {**ARM, "after": "b"}}}, "comes after 'b'"),
        ({"arms": {"a": ARM, "b": {**ARM, "after": "a", "tokens_of": ["c"]}}}, "comes after 'c'"),
        ({"arms": {"a": ARM, "b": {**ARM, "tokens_of": ["a"]}}}, "tokens_of of arm 'b' needs after"),
        ({"arms": {"a": {"modes": ["dreaming"]}}}, "dreaming"),
        (
            {
                "contrasts": {
                    "c": {"task": "pet", "arm": "a", "mode": "answer_only", "reference": "a", "transfer": True}
                }
            },
            "'c' is about other rooms: set plan.tasks.pet.transfer",
        ),
        ({"split": "all"}, "train, val, test"),
        ({"wokers": 2}, "workers"),
    ],
)
def test_mistakes_name_what_is_valid(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_study(plan(**changes))


def test_two_processes_do_not_make_one_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipt.study.run.make_data", lambda study: pytest.fail("it began"))
    with held(tmp_path), pytest.raises(FolderInUse, match=f"{tmp_path} is being written by process"):
        run_study(plan(data=str(tmp_path / "data")), tmp_path, (), dict)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_of_the_studies_is_a_training_that_goes_together(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.register()
    composed: Any = OmegaConf.to_container(command.COMMAND.compose([f"study={name}"]), resolve=True)
    study: Study = make_study(composed["plan"])
    monkeypatch.chdir(tmp_path)
    for task in study.tasks:
        study.dataset(task, "train").mkdir(parents=True)
        study.dataset(task, study.split).mkdir(parents=True)
    seen = set()
    for run in runs(study, Path("out"), (f"study={name}",)):
        if (run.task, run.arm) not in seen and study.arms[run.arm].steps:
            seen.add((run.task, run.arm))
            values: Any = OmegaConf.to_container(command.COMMAND.compose([*run.overrides, *run.start]), resolve=True)
            config = train_config({key: value for key, value in values.items() if key != "plan"})
            assert (config.trainer.seed, config.loader.seed, config.sequence.seed) == (run.seed,) * 3
            assert list(config.task.names) == [run.task] and config.loader.max_samples == 32
            Recipe(config.imagination, config.full_sequence, load_profile("brief")).save(run.folder / "model")
    assert {arm for _, arm in seen} == {name for name, arm in study.arms.items() if arm.steps}


def test_the_study_of_reinforcement_asks_each_model_as_the_one_before_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.register()
    monkeypatch.chdir(tmp_path)
    composed: Any = OmegaConf.to_container(command.COMMAND.compose(["study=grpo"]), resolve=True)
    study, found = make_study(composed["plan"]), {}
    study.dataset("pet", "train").mkdir(parents=True)
    for run in (run for run in runs(study, Path("out"), ("study=grpo",)) if run.seed == 0):
        values: Any = OmegaConf.to_container(command.COMMAND.compose([*run.overrides, *run.start]), resolve=True)
        config = found[run.arm] = train_config({key: value for key, value in values.items() if key != "plan"})
        Recipe(config.imagination, config.full_sequence, load_profile("brief")).save(run.folder / "model")
    stages = {arm: config.grpo.stage for arm, config in found.items()}
    assert stages == {
        "start": None,
        "readout": "readout",
        "both": "imagination",
        "supervised": None,
        "shuffled": "readout",
    }
    assert found["shuffled"].grpo.shuffled and found["both"].tuning.lora.experts == ("generation",)
    assert found["both"].imagination == found["start"].imagination and found["both"].imagination.trained == ("ipt",)


@pytest.mark.parametrize("name", ["few_labels", "from_base"])
def test_other_rooms_offer_every_count_that_is_asked(name: str, tmp_path: Path) -> None:
    """Seven solids of two colours are four and three of each, of which no question can be made."""
    composed: Any = OmegaConf.to_container(command.COMMAND.compose([f"study={name}"]), resolve=True)
    composed["plan"] |= {"data": str(tmp_path), "workers": 1}
    composed["plan"]["tasks"] = {"mvc": {**composed["plan"]["tasks"]["mvc"], "rows": {"train": 2, "val": 2, "test": 2}}}
    make_data(make_study(composed["plan"]))
    other = SampleReader(tmp_path / "mvc-transfer")
    assert len(other) == 2 and all(len(sample.choices) == 4 for sample in other)
