"""The command that writes a model in BAGEL's layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ipt.common import cli
from ipt.common.errors import UserError
from ipt.common.files import write_json
from ipt.imagination.recipe import RECIPE
from ipt.model.checkpoint import from_pretrained, read_config, save_pretrained
from ipt.model.codec import PatchPca
from ipt.model.config import ModelConfig
from ipt.training.build import model_shape
from ipt.training.config import ModelSettings, train_config
from ipt.training.export import ExportConfig, export
from tests.model.toy import AS_BAGEL, random_model


@pytest.fixture
def run(tmp_path: Path) -> Path:
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1]
    folder = tmp_path / "run" / "model"
    save_pretrained(random_model(config=AS_BAGEL), folder, codec=PatchPca.fit(images, patch=8, channels=4))
    write_json(folder / RECIPE, {"format": "x"})
    return tmp_path / "run"


def test_the_exported_model_is_the_same_in_bagels_layout(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(ExportConfig, export, [f"checkpoint={run}", f"output_dir={run / 'bagel'}"])
    assert "BAGEL's own tools cannot draw" in capsys.readouterr().err
    _, layout, (file,) = read_config(run / "bagel")
    assert (layout, file.name) == ("bagel", "ema.safetensors")
    assert {"llm_config.json", "vit_config.json", "codec.safetensors", RECIPE} <= {
        path.name for path in (run / "bagel").iterdir()
    }
    expected, found = from_pretrained(run / "model").state_dict(), from_pretrained(run / "bagel").state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_a_larger_table_and_another_dtype_are_settings(run: Path) -> None:
    side = read_config(run / "model")[0].latents.side + 3
    given = [f"checkpoint={run}", f"output_dir={run / 'wide'}", f"latent_side={side}", "dtype=bfloat16"]
    cli.run(ExportConfig, export, given)
    model = from_pretrained(run / "wide")
    assert model.config.latents.side == side
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["layout=bagle"], "unknown layout 'bagle' (did you mean 'bagel'?)"),
        (["dtype=int8"], "unknown dtype 'int8'"),
        (["latent_side=0"], "latent_side must be positive"),
        (["output_dir=run/model"], "choose another folder"),
        (["checkpoint=nowhere"], "checkpoint=nowhere is no folder"),
    ],
)
def test_mistakes_end_with_one_line(
    changes: list[str],
    told: str,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(run.parent)
    with pytest.raises(SystemExit) as ended:
        cli.run(ExportConfig, export, ["checkpoint=run", "output_dir=out", *changes])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_run_takes_weights_of_its_preset_or_the_shape_as_it_is(run: Path) -> None:
    """A preset beside weights of another shape was ignored."""

    def shape(**model: object) -> ModelConfig:
        values = {
            "dry_run": True,
            "imagination": {"modes": {"ipt": 1.0}},
            "model": {"init": str(run / "model"), **model},
        }
        return model_shape(train_config(values))

    stored = read_config(run / "model")[0]
    with pytest.raises(UserError, match=r"not of the shape model.preset=tiny; choose model.preset=null"):
        shape()
    assert shape(preset=None) == stored
    assert shape(preset=None, latent_side=33).latents == replace(stored.latents, side=33)


def test_rows_and_columns_in_rope_are_a_setting_of_fresh_weights(run: Path) -> None:
    shapes = [ModelSettings(grid_rope=rope).shape for rope in (None, True, False)]
    assert [shape.decoder.grid_rope for shape in shapes] == [True, True, False]
    with pytest.raises(UserError, match="know the rope that they were trained with"):
        ModelSettings(preset=None, init=str(run / "model"), grid_rope=False)
