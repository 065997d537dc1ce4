"""No key of a command is accepted and then ignored: it is refused, or what a run is built from changes with it."""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import infer as infer_command
import train as train_command
from datagen.__main__ import compose as compose_datagen
from datagen.__main__ import register as register_datagen
from datagen.backends.registry import BACKENDS
from datagen.config import RUNTIME, run_config
from datagen.tasks import TASK_CONFIGS
from ipt.common.errors import UserError
from ipt.evaluation.settings import ReportConfig
from ipt.inference.settings import InferConfig
from ipt.training.config import TrainConfig, train_config
from ipt.training.settings import LOSS_TERMS, WEIGHT
from tests.inference.toy import recipe

ROOT = Path(__file__).resolve().parents[1]
#: Another value of a key, where it is not another number, the opposite, or None turned into a text.
OTHER: Mapping[str, Any] = {
    "model.preset": "micro",
    "model.codec": "none",
    "model.attention": "flex",
    "model.grid_rope": False,
    "model.init": ".",
    "grpo.rewards": {"correct": 1.0},
    "grpo.answers": 8,
    "grpo.last": 0.9,
    "grpo.first": 0.1,
    "grpo.clip": 0.3,
    "grpo.loss": "dapo",
    "grpo.scale": "group",
    "grpo.mode": "text_cot",
    "grpo.draw.renorm": "global",
    "grpo.draw.branches": "apart",
    "grpo.text.temperature": 0.5,
    "grpo.text.max_tokens": 9,
    "grpo.draw.timesteps": 9,
    "task.names": ["mvc", "pet"],
    "data.parts": {".": 2.0},
    "data.validation": ".",
    "data.cache": ".",
    "data.profile": "brief",
    "imagination.ipt.condition": ["vit"],
    "sequence.observe": ["vit"],
    "sequence.oversize": "reject",
    "loader.start_method": "spawn",
    "backend.top_camera": "2",
    "trainer.dtype": "bfloat16",
    "trainer.resume": "never",
    "optim.schedule": "constant",
    "optim.min_lr": 1e-6,
    "checkpoints.best": "ce",
    "evaluation.answer": "options",
    "evaluation.modes": ["gt_imagination"],
    "tuning.kind": "lora",
    "tuning.freeze": ["vision"],
    "tuning.lora.experts": ["generation"],
    "distributed.kind": "ddp",
    "tracker": ["wandb"],
    "evaluation.draw.renorm": "global",
    "sequence.resolutions": {"mvc": {"imagination": 4}},
}


@pytest.fixture(autouse=True)
def clean_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    GlobalHydra.instance().clear()


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its value; a mapping that has none of its own is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changed(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    result: dict[str, Any] = copy.deepcopy(dict(values))
    *parents, last = key.split(".")
    place = result
    for name in parents:
        place = place[name]
    place[last] = value
    return result


def another(key: str, value: Any) -> Any:
    if key in OTHER:
        return OTHER[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 + 1
    if isinstance(value, Mapping):
        return {"other": 1.0}
    return ["other"] if isinstance(value, list) else "1"


def parts(config: TrainConfig) -> dict[str, Any]:
    """What the parts of a run are given."""
    whole = asdict(config)
    for name in ("trainer", "loss", "optim", "ema", "checkpoints", "sequence", "resolution"):
        del whole[name]
    return {**whole, "trainer": asdict(config.full_trainer), "sequence": asdict(config.full_sequence)}


def test_every_key_of_training_is_refused_or_reaches_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train_command.register()
    given = ["task=mvc", f"data.train={tmp_path}", "ema.decay=0.9"]
    values: Any = OmegaConf.to_container(train_command.COMMAND.compose(given), resolve=True)
    before, ignored, accepted = parts(train_config(values)), [], 0
    keys = dict(leaves(values))
    assert len(keys) > 100 and {key.partition(".")[0] for key in keys} == {f.name for f in fields(TrainConfig)}
    for key, value in keys.items():
        try:
            after = parts(train_config(changed(values, key, another(key, value))))
        except UserError:
            continue
        accepted += 1
        if after == before:
            ignored.append(key)
    assert ignored == []
    assert accepted > sum(not key.startswith("grpo.") for key in keys) / 2


def test_every_key_of_a_reinforced_run_is_refused_or_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model was trained with is not to be said again, and what supervised packs are made of is not read."""
    recipe("ipt", "text_cot").save(tmp_path / "run" / "model")
    monkeypatch.chdir(tmp_path)
    train_command.register()
    given = ["experiment=grpo", f"data.train={tmp_path}", f"model.init={tmp_path / 'run'}"]
    for stage, more in (("readout", []), ("readout", ["grpo.closed=false"]), ("imagination", [])):
        composed = train_command.COMMAND.compose([*given, f"grpo={stage}", *more])
        values: Any = OmegaConf.to_container(composed, resolve=True)
        before, ignored, accepted = parts(train_config(values)), [], set()
        for key, value in leaves(values):
            if (other := another(key, value)) == value:
                continue
            try:
                after = parts(train_config(changed(values, key, other)))
            except UserError:
                continue
            accepted.add(key)
            if after == before:
                ignored.append(key)
        assert ignored == []
        assert accepted >= {"grpo.questions", "grpo.batch_size", "grpo.shuffled", "grpo.draw.timesteps", "optim.lr"}
        assert not {key for key in accepted if key.startswith(("imagination.", "sequence.dropout", "loss.ce"))}
        assert ("grpo.kl" in accepted) == (stage == "readout") != ("grpo.velocity" in accepted)
        assert ("grpo.answers" in accepted) == bool(more)


def test_keys_of_what_a_run_does_not_do_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing draws, the rate is constant, no worker prepares batches, one process trains, and nothing is validated."""
    monkeypatch.chdir(tmp_path)
    train_command.register()
    given = ["task=mvc", f"data.train={tmp_path}", "imagination=label_only", "optim=paper"]
    values: Any = OmegaConf.to_container(train_command.COMMAND.compose(given), resolve=True)
    train_config(values)
    modes = {name for name, mode in values["imagination"].items() if name != "modes"}
    idle = [f"imagination.{mode}." for mode in modes] + ["sequence.dropout.", "loss.timestep_shift", "loss.noise_draws"]
    idle += ["optim.min_lr", "loader.start_method", "distributed.timeout_minutes", "checkpoints.best"]
    keys = {key: value for key, value in leaves(values) if key.startswith(tuple(idle))}
    assert len(keys) > 12
    for key, value in keys.items():
        with pytest.raises(UserError):
            train_config(changed(values, key, another(key, value)))


@pytest.mark.parametrize("key", ["loss.chunk", "optim.lr", "ema.decay", "checkpoints.every"])
def test_the_loop_has_one_place_for_each_of_its_settings(key: str) -> None:
    group, name = key.split(".")
    with pytest.raises(UserError, match=f"unknown train.trainer setting '{group}'"):
        train_config({"trainer": {group: {name: 1}}})


def settings_of(config: type[Any]) -> set[str]:
    """Names of all keys of a dataclass and of those nested in it."""
    found = set()
    for entry in fields(config):
        made = entry.default_factory() if callable(entry.default_factory) else entry.default
        found |= settings_of(type(made)) if is_dataclass(made) else {entry.name}
    return found


def read_names(*packages: str) -> set[str]:
    """Names of attributes that the code reads."""
    # by `getattr`: of dropout in `ipt.sequence.render`, and of each term of the loss
    found = {"imagination_vae", "imagination_vit", *(f"{name}{WEIGHT}" for name in LOSS_TERMS)}
    for path in (file for package in packages for file in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
    return found


def test_every_setting_is_read_somewhere() -> None:
    read = read_names("ipt")
    for config in (TrainConfig, InferConfig, ReportConfig):
        assert settings_of(config) - read == set(), config
    made = read_names("datagen")
    for task in TASK_CONFIGS.values():
        assert settings_of(task) - made == set(), task
    for backend in BACKENDS.values():
        assert settings_of(backend.config_class()) - made == set(), backend


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_every_key_of_generation_shapes_the_samples_or_says_how_they_are_made(backend: str) -> None:
    register_datagen()
    composed: Any = OmegaConf.to_container(compose_datagen([f"backend={backend}"]), resolve=True)
    before = run_config(composed).content()
    for key, value in leaves(composed):
        if key.partition(".")[0] in (*RUNTIME, "shard") or key in ("task.name", "backend.name"):
            continue
        try:
            after = run_config(changed(composed, key, another(key, value))).content()
        except ValueError:
            continue
        assert after != before, key


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["report=[a]", "limit=3"], "limit: not with report"),
        (["report=[a]", "mode=imagination"], "mode: not with report"),
        (["gallery=3"], "gallery: these are for a page"),
        (["quality.limit=3"], "quality: these are for a page"),
    ],
)
def test_answering_and_reporting_refuse_each_others_keys(
    given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        infer_command.main(given)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": {"prompts": "x.json"}}, "data.prompts has no effect without data.profile=release"),
        ({"data": {"validation_packs": 3}}, "data.validation_packs has no effect without data.validation"),
        ({"model": {"weights": "ema.safetensors"}}, "model.weights has no effect without model.init"),
        ({"model": {"pad_packs": 1024}}, "model.pad_packs has no effect without model.attention=flex"),
        (
            {"evaluation": {"answer": "options"}},
            "evaluation has no effect without evaluation.questions or evaluation.data",
        ),
        ({"evaluation": {"limit": 3}}, "evaluation.limit has no effect without evaluation.data"),
        (
            {"checkpoints": {"best": "ce", "keep_best": 0}},
            "checkpoints.best has no effect without data.validation",
        ),
        ({"tuning": {"lora": {"rank": 3}}}, "tuning.lora has no effect without tuning=lora"),
        ({"ema": {"decay": 0.0, "warmup": False}}, "ema.warmup has no effect without ema.decay above 0"),
        ({"distributed": {"shard": 2}}, "distributed.shard has no effect without distributed=hsdp"),
        (
            {"distributed": {"timeout_minutes": 2}},
            "distributed.timeout_minutes has no effect without several processes",
        ),
        ({"optim": {"min_lr": 1e-6}}, "optim.min_lr has no effect without optim.schedule=cosine"),
        (
            {"imagination": {"modes": {"ipt": 1.0}, "ipt": {"self_made": "."}}},
            "self_made has no effect without a share",
        ),
        ({"sequence": {"resolutions": {"pt": {"imagination": 4}}}}, "sequence.resolutions of pt has no effect"),
        (
            {"resolution": {"imagination": 4}, "sequence": {"resolutions": {"pet": {"imagination": 8}}}},
            "resolution has no effect without a task that has no sizes of its own",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_nothing_would_read_is_named_with_what_would_make_it_count(changes: dict[str, Any], told: str) -> None:
    plain: dict[str, Any] = {"dry_run": True, "imagination": {"modes": {"ipt": 1.0}}, "ema": {"decay": 0.0}}
    plain |= {
        "resolution": {"input_side": 64, "input_min_side": 32, "vit_side": 64, "vit_min_side": 32, "imagination": 8}
    }
    plain |= {"loader": {"budget": 24576}}
    train_config(plain)
    with pytest.raises(UserError, match=told):
        train_config({**plain, **changes})
