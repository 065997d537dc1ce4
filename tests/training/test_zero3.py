"""DeepSpeed's ZeRO-3 does what one process does. Without DeepSpeed: what accelerate is given, and what a run is told."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ipt.training.config import ModelSettings, TrainConfig, TuningSettings, conflicts
from ipt.training.losses import Objective
from ipt.training.settings import DistributedConfig, EvaluationSettings, LossConfig, OptimConfig
from ipt.training.tuning import apply_tuning
from ipt.training.zero3 import Zero3
from tests.training.runs import toy_model
from tests.training.test_distributed import Result, assert_same, make, result

installed = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs the extra deepspeed")


def flattened(found: Result) -> Result:
    return {name: tensor.flatten() for name, tensor in found[0].items()}, found[1]


@installed
@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [{"uneven": True}, {"packs": 4}, {"tuning": {"kind": "generation_expert"}}],
    ids=["one process without images", "accumulation", "generation expert"],
)
def test_zero3_equals_one_process(changes: dict[str, Any], tmp_path: Path) -> None:
    expected = result(make(tmp_path, "single", **changes))
    tensors, records = flattened(result(make(tmp_path, "zero3", kind="deepspeed", **changes)))
    exported = {name: tensors.pop(name) for name in list(tensors) if name.startswith("exported ")}
    assert_same((tensors, records), flattened(expected), 1e-5)
    weights = {name.split()[1]: tensor for name, tensor in tensors.items() if name.startswith("model ")}
    assert weights and all(torch.equal(exported[f"exported {name}"], tensor) for name, tensor in weights.items())
    assert len(exported) == len(list(toy_model().parameters()))


@installed
@pytest.mark.long
def test_a_zero3_run_continues(tmp_path: Path) -> None:
    """After two of four steps; the optimizer's own count of steps is compared, too."""
    whole = result(make(tmp_path, "whole", kind="deepspeed", steps=4))
    begun = make(tmp_path, "begun", kind="deepspeed", steps=2)
    result(begun)
    tensors, records = result(replace(begun, steps=4))
    assert_same((tensors, records), (whole[0], whole[1][2:]), 0)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in whole[0].items())
    assert any(name.startswith("step ") and tensor == 4 for name, tensor in tensors.items())


@installed
@pytest.mark.long
def test_zero3_computes_in_bfloat16(tmp_path: Path) -> None:
    exact = result(make(tmp_path, "single"))
    tensors, records = result(make(tmp_path, "zero3", kind="deepspeed", dtype="bfloat16"))
    for name, tensor in tensors.items():  # as in one process, the model's own weights are those that it computes with
        assert tensor.dtype == (torch.bfloat16 if name.startswith("exported ") else torch.float32), name
    assert records[0]["loss"] == pytest.approx(exact[1][0]["loss"], rel=2e-2)
    assert records[0]["loss"] != exact[1][0]["loss"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_accelerate_is_given(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage 3 without clipping, which the loop does, and our AdamW over what is trained. A parameter that stayed gathered would
    miss what averages and checkpoints write."""
    given: dict[str, Any] = {}

    class Prepared(Exception):
        pass

    class Accelerator:
        def __init__(self, **settings: Any) -> None:
            given.update(settings)

        def prepare(self, *prepared: Any) -> None:
            given["prepared"] = prepared
            raise Prepared

    monkeypatch.setattr("accelerate.Accelerator", Accelerator)
    monkeypatch.setattr("accelerate.utils.DeepSpeedPlugin", lambda hf_ds_config: hf_ds_config)
    monkeypatch.setattr("torch.distributed.get_backend", lambda: "gloo")
    model = apply_tuning(toy_model(), TuningSettings("generation_expert"))
    with pytest.raises(Prepared):
        Zero3(Objective(model, LossConfig()), OptimConfig(lr=0.5), dtype)
    settings = given["deepspeed_plugin"]
    assert settings["zero_optimization"] == {"stage": 3, "stage3_param_persistence_threshold": 0}
    assert settings["gradient_clipping"] == 0 and settings["gradient_accumulation_steps"] == 1
    assert settings["data_types"]["grad_accum_dtype"] == settings["communication_data_type"] == "fp32"
    low = dtype is torch.bfloat16
    assert settings["bf16"]["enabled"] == low and given["mixed_precision"] == ("bf16" if low else "no")
    assert given["kwargs_handlers"][0].backend == "gloo"
    objective, optimizer = given["prepared"]
    assert objective.model is model and isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["lr"] == 0.5
    assert optimizer.param_groups[0]["params"] == [p for p in model.parameters() if p.requires_grad]


def test_a_run_is_told_that_deepspeed_is_missing_and_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(distributed=DistributedConfig("deepspeed"), model=ModelSettings(init="."))
    monkeypatch.setattr("ipt.training.config.find_spec", lambda name: None)
    assert any("pip install 'imaginative-perception-tokens[deepspeed]'" in found for found in conflicts(config))
    monkeypatch.setattr("ipt.training.config.find_spec", lambda name: object())
    assert not any("deepspeed" in found for found in conflicts(config))
    lora = replace(config, tuning=TuningSettings("lora"))
    assert any("tuning=lora" in found and "fsdp2" in found for found in conflicts(lora))
    asked = replace(config, evaluation=EvaluationSettings(questions=5))
    assert any("evaluation.questions=5" in found and "evaluation.data" in found for found in conflicts(asked))
