"""Two processes do what one does: with replicas and with divided weights, with adapters, and after a change of their number."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ipt.training.distributed import start_world
from ipt.training.settings import DistributedConfig
from tests.training.processes import together
from tests.training.ranks import Job, main
from tests.training.test_trainer import VARYING

Result = tuple[dict[str, Tensor], list[dict[str, Any]]]
Alone = Callable[..., Result]


def result(job: Job) -> Result:
    """The job run by one process (kind single) or two."""
    Path(job.folder).mkdir(exist_ok=True)
    together(1 if job.kind == "single" else 2, main, job)
    return load_file(f"{job.output}.safetensors"), json.loads(Path(f"{job.output}.json").read_text())


def make(tmp_path: Path, name: str, **changes: Any) -> Job:
    return Job(str(tmp_path / name), str(tmp_path / name), **changes)


def assert_same(found: Result, expected: Result, tolerance: float = 1e-6) -> None:
    """Records, and gradients as AdamW has averaged them (weights would show the rounding errors of gradients that are 0)."""
    for ours, theirs in zip(found[1], expected[1], strict=True):
        for name in ours.keys() - {*VARYING, "hardest"}:
            exact = not isinstance(theirs[name], float)
            assert ours[name] == (theirs[name] if exact else pytest.approx(theirs[name], rel=tolerance)), name
        assert [name for name, _ in ours["hardest"]] == [name for name, _ in theirs["hardest"]]
    assert found[0].keys() == expected[0].keys()
    for name, tensor in expected[0].items():
        if name.startswith("exp_avg"):
            torch.testing.assert_close(found[0][name], tensor, atol=tolerance, rtol=1e-4, msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """What one process computes with these changes of a job, computed once."""
    known: dict[str, Result] = {}

    def of(**changes: Any) -> Result:
        key = json.dumps(changes, sort_keys=True)
        if key not in known:
            known[key] = result(make(tmp_path_factory.mktemp("alone"), "single", **changes))
        return known[key]

    return of


@pytest.mark.parametrize("kind, draws", [("ddp", 3), ("fsdp2", 1), pytest.param("hsdp", 1, marks=pytest.mark.long)])
def test_two_processes_one_of_them_without_images_equal_one(
    kind: str, draws: int, alone: Alone, tmp_path: Path
) -> None:
    """Also where they validate their average after every step, which changes nothing (`divide_again`)."""
    job = make(tmp_path, kind, kind=kind, draws=draws, uneven=True, validated=True)
    assert_same(result(job), alone(draws=draws, uneven=True))


def test_latent_slots_and_codes_train_under_divided_weights(alone: Alone, tmp_path: Path) -> None:
    """One of the processes has neither; the map of the slots, the embedding and the head of the codes are divided, too."""
    found, expected = (
        result(make(tmp_path, "fsdp2", kind="fsdp2", grown=True, uneven=True)),
        alone(grown=True, uneven=True),
    )
    assert_same(found, expected)
    for name in ("slot_in.map.weight", "codes.embed.weight", "codes.head.weight"):
        assert any(key.startswith("exp_avg") and name in key and tensor.any() for key, tensor in found[0].items()), name


@pytest.mark.long
@pytest.mark.parametrize("first, second", [("single", "fsdp2"), ("fsdp2", "single"), ("ddp", "fsdp2")])
def test_a_run_continues_on_another_number_of_processes(first: str, second: str, alone: Alone, tmp_path: Path) -> None:
    whole = alone(steps=4)
    begun = make(tmp_path, "begun", kind=first, steps=2)
    result(begun)
    tensors, records = result(replace(begun, kind=second, steps=4))
    assert_same((tensors, records), (whole[0], whole[1][2:]))


@pytest.mark.parametrize(
    "experts", [["generation"], pytest.param(["understanding", "generation"], marks=pytest.mark.long)]
)
def test_adapters_train_and_merge_under_divided_weights(experts: list[str], alone: Alone, tmp_path: Path) -> None:
    tuning = {"kind": "lora", "lora": {"rank": 2, "experts": experts}}
    expected = alone(tuning=tuning)
    found = result(make(tmp_path, "fsdp2", kind="fsdp2", tuning=tuning))
    assert_same(found, expected)
    trained = {name for name in found[0] if name.startswith("model ")}
    assert trained and all(".lora_" in name and any(expert in name for expert in experts) for name in trained)
    merged = [name for name in expected[0] if name.startswith("merged ")]
    assert len(merged) > 50
    for name in merged:
        torch.testing.assert_close(found[0][name], expected[0][name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.long
@pytest.mark.parametrize("tuning", [{"kind": "generation_expert"}, {"freeze": ["vision", "connector"]}], ids=str)
def test_frozen_parts_have_no_state_under_divided_weights(tuning: dict[str, Any], alone: Alone, tmp_path: Path) -> None:
    expected = alone(tuning=tuning)
    found = result(make(tmp_path, "fsdp2", kind="fsdp2", tuning=tuning))
    assert_same(found, expected)
    names = {name.split(" ")[1] for name in found[0]}
    assert not any(name.startswith(("vision.", "connector.")) for name in names)
    assert tuning.get("kind") != "generation_expert" or not any(".understanding." in name for name in names)


@pytest.mark.parametrize("kind", ["ddp", pytest.param("fsdp2", marks=pytest.mark.long)])
def test_bfloat16_gradients_are_summed_in_float32_over_packs_and_processes(
    kind: str, alone: Alone, tmp_path: Path
) -> None:
    """Two packs for each of two processes, or four for one: the same float32 sums of what bfloat16 computes."""
    expected = alone(dtype="bfloat16", packs=4)
    found = result(make(tmp_path, kind, kind=kind, dtype="bfloat16", packs=4))
    assert all(tensor.dtype == torch.float32 for tensor in found[0].values())
    assert_same(found, expected)


def test_settings_and_launcher_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match=r"ddp does not go with 1 process.*torchrun"):
        start_world(DistributedConfig("ddp"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"single does not go with 2 process.*fsdp2"):
        start_world(DistributedConfig("single"))
    with pytest.raises(ValueError, match=r"unknown distributed 'fsdp'.*'fsdp2'.*valid: ddp"):
        DistributedConfig("fsdp")
