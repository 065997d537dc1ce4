"""Model folders: parity of names and shapes, round trips, strictness, memory."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ipt.common.errors import UserError
from ipt.common.files import CorruptFile
from ipt.common.settings import typed
from ipt.model.checkpoint import (
    Layout,
    StoredModel,
    bagel_shapes,
    build_on_meta,
    from_pretrained,
    from_scratch,
    materialise,
    save_pretrained,
)
from ipt.model.codec import PatchPca, autoencoder_shapes, build_autoencoder, load_codec
from ipt.model.config import ModelConfig, presets
from ipt.model.unified import UnifiedModel
from tests.model.golden_set import COMMITTED, FOLDER
from tests.model.toy import AS_BAGEL, CONFIG, Maker, random_model


def committed_shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in json.loads((COMMITTED / name).read_text()).items()}


def test_bagel_7b_on_meta_has_the_names_and_shapes_of_the_release() -> None:
    shapes = bagel_shapes(build_on_meta(presets["bagel_7b_mot"]))
    assert len(shapes) == 1223 and shapes == committed_shapes("bagel7b_shapes.json")


def test_the_flux_autoencoder_has_the_names_and_shapes_of_the_release() -> None:
    with torch.device("meta"):
        shapes = autoencoder_shapes(build_autoencoder((128, 256, 512, 512), 2, 16))
    assert len(shapes) == 244 and shapes == committed_shapes("ae_shapes.json")


@pytest.mark.parametrize(("name", "least", "most"), [("tiny", 1e6, 5e6), ("small", 0.9e8, 1.1e8)])
def test_presets_have_their_size(name: str, least: float, most: float) -> None:
    count = sum(parameter.numel() for parameter in build_on_meta(presets[name]).parameters())
    assert least <= count <= most


def same_outputs(a: UnifiedModel, b: UnifiedModel) -> bool:
    make = Maker(0)
    batch = make.batch([make.imagining()])
    with torch.no_grad():
        return torch.equal(a(*batch).logits_CV, b(*batch).logits_CV)


def test_bagel_to_ours_to_bagel_is_byte_equal(tmp_path: Path) -> None:
    model = from_pretrained(FOLDER)
    save_pretrained(model, tmp_path / "ours", codec=load_codec(FOLDER))
    assert not list((tmp_path / "ours").glob("ema*"))
    again = from_pretrained(tmp_path / "ours")
    assert again.config == model.config
    save_pretrained(again, tmp_path / "bagel", layout="bagel", codec=load_codec(tmp_path / "ours"))
    for name in ("ema.safetensors", "ae.safetensors"):
        ours, theirs = (tmp_path / "bagel" / name), (FOLDER / name)
        if name == "ae.safetensors":
            theirs = tmp_path / "upcast.safetensors"
            save_file({key: tensor.float() for key, tensor in load_file(FOLDER / name).items()}, theirs)
        assert ours.read_bytes() == theirs.read_bytes(), name
    third = from_pretrained(tmp_path / "bagel")
    assert third.config == model.config


def test_bfloat16_round_trip_is_byte_equal(tmp_path: Path) -> None:
    for folder, source in (("first", from_pretrained(FOLDER)), ("second", None)):
        source = source or from_pretrained(tmp_path / "first")
        save_pretrained(source, tmp_path / folder, layout="bagel", dtype=torch.bfloat16)
    first, second = ((tmp_path / folder / "ema.safetensors").read_bytes() for folder in ("first", "second"))
    assert first == second


@pytest.mark.parametrize("layout", ["native", "bagel"])
def test_shards_equal_one_file(tmp_path: Path, layout: str) -> None:
    model = random_model(config=AS_BAGEL).eval()
    save_pretrained(model, tmp_path, layout=layout, shard_bytes=40_000)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 3
    assert max(path.stat().st_size for path in shards) < 50_000
    loaded = from_pretrained(tmp_path, dtype=torch.float32)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert same_outputs(model, loaded)
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(shards[1].name)):
        from_pretrained(tmp_path)


def rewrite(folder: Path, change: dict[str, Tensor | None]) -> None:
    tensors = load_file(folder / "model.safetensors") | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")


def test_a_missing_unexpected_or_misshapen_tensor_is_named(tmp_path: Path) -> None:
    save_pretrained(random_model(), tmp_path)
    rewrite(
        tmp_path,
        {"latent_in.weight": None, "latent_on.weight": torch.zeros(2), "lm_head.weight": torch.zeros(64, 31)},
    )
    with pytest.raises(ValueError) as error:
        from_pretrained(tmp_path)
    message = str(error.value)
    assert "missing: latent_in.weight" in message and "unexpected: latent_on.weight" in message
    assert "lm_head.weight is [64, 31], not [64, 32]" in message
    with pytest.raises(ValueError, match=r"the state to save does not hold this model; missing: .* and .* more"):
        save_pretrained(random_model(), tmp_path / "other", state={})
    assert not (tmp_path / "other").exists()


def test_pickles_are_refused(tmp_path: Path) -> None:
    save_pretrained(random_model(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"only pickled weights \(pytorch_model.bin\)"):
        from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="only safetensors are loaded"):
        from_pretrained(tmp_path, weights="pytorch_model.bin")


def test_an_ambiguous_broken_or_foreign_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no model folder"):
        from_pretrained(tmp_path)
    save_pretrained(random_model(), tmp_path)
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "ema.safetensors")
    with pytest.raises(ValueError, match=r"both model.safetensors and ema.safetensors; choose one with weights="):
        from_pretrained(tmp_path)
    assert from_pretrained(tmp_path, weights="ema.safetensors").config == CONFIG
    whole = (tmp_path / "ema.safetensors").read_bytes()
    (tmp_path / "ema.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"ema.safetensors is not a whole safetensors file"):
        from_pretrained(tmp_path, weights="ema.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../model.safetensors"}}')
    with pytest.raises(ValueError, match="points outside its folder"):
        from_pretrained(tmp_path)


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Write what ``change`` returns of the file's JSON, or leaves in it."""
    values = json.loads(path.read_text())
    changed = change(values)
    path.write_text(json.dumps(values if changed is None else changed))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: [values], r"config\.json: expected a JSON object, got \["),
        (lambda values: "text", r"config\.json: expected a JSON object, got 'text'"),
        (lambda values: {"format": values["format"]}, r"config\.json lacks the field 'model'"),
        (lambda values: values.update(model="toy"), r"config\.json: model takes {name: "),
        (lambda values: values.update(model={"name": "toy"}), r"config\.json: model lacks decoder, vision, latents"),
        (lambda values: values["model"]["decoder"].update(layers=0), r"config\.json: layers must lie between 1 and"),
        (lambda values: values["model"]["decoder"].update(layers=10_000), r"config\.json: layers .* got 10000"),
        (lambda values: values["model"]["vision"].update(layers=10_000), r"config\.json: layers .* got 10000"),
        (lambda values: values["model"]["latents"].update(side="x"), r"config\.json: model.latents.side takes a whole"),
        (lambda values: values["model"]["latents"].update(side=10**9), r"config\.json: side must lie between"),
    ],
)
def test_a_configuration_that_is_none_is_named_with_its_field(
    change: Callable[[Any], object], message: str, tmp_path: Path
) -> None:
    save_pretrained(random_model(), tmp_path)
    edited(tmp_path / "config.json", change)
    with pytest.raises(CorruptFile, match=message):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("llm_config", {"hidden_size": "x"}, r"llm_config\.json\.hidden_size takes a whole number, got 'x'"),
        ("llm_config", {"num_attention_heads": 0}, r"llm_config\.json: heads must lie between 1 and"),
        ("vit_config", {"num_hidden_layers": None}, r"vit_config\.json\.num_hidden_layers takes a whole number"),
        ("bagel_config", {"latent_patch_size": 0}, r"bagel_config\.json: latent_patch_size must lie between 1 and"),
    ],
)
def test_a_field_of_bagels_files_is_named(file: str, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_pretrained(random_model(config=AS_BAGEL), tmp_path, layout="bagel")
    edited(tmp_path / f"{file}.json", lambda values: values.update(change))
    with pytest.raises(UserError, match=message):
        from_pretrained(tmp_path)
    edited(tmp_path / f"{file}.json", lambda values: {name: values[name] for name in values.keys() - change.keys()})
    if file == "bagel_config":
        from_pretrained(tmp_path)
    else:
        with pytest.raises(UserError, match=rf"{file}\.json lacks {next(iter(change))}"):
            from_pretrained(tmp_path)


def test_an_index_that_is_none_is_named_with_its_field(tmp_path: Path) -> None:
    save_pretrained(random_model(), tmp_path, shard_bytes=40_000)
    for index, message in (
        ("[]", "expected a JSON object"),
        ("{}", "lacks weight_map"),
        ('{"weight_map": 3}', "takes"),
    ):
        (tmp_path / "model.safetensors.index.json").write_text(index)
        with pytest.raises(UserError, match=rf"index\.json.*{message}"):
            from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_tensors_of_8_bits_are_upcast_and_said_so(
    dtype: torch.dtype, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_model(config=AS_BAGEL)
    save_pretrained(model, tmp_path, layout="bagel", dtype=torch.bfloat16)
    stored = load_file(tmp_path / "ema.safetensors")
    narrow = {name: tensor.to(dtype) for name, tensor in stored.items()}
    save_file(narrow, tmp_path / "ema.safetensors")
    for kept, chosen in ((torch.bfloat16, None), (torch.float32, torch.float32)):
        loaded = from_pretrained(tmp_path, dtype=chosen)
        assert {tensor.dtype for tensor in loaded.state_dict().values()} == {kept}
        head = narrow["language_model.lm_head.weight"].to(kept)
        assert torch.equal(loaded.state_dict()["lm_head.weight"], head) and head.abs().sum() > 0
        assert f"{len(narrow)} tensors of 8 bits are computed with in 16 or more" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.int64])
def test_a_tensor_that_holds_no_weights_is_named(dtype: torch.dtype, tmp_path: Path) -> None:
    save_pretrained(random_model(), tmp_path)
    rewrite(tmp_path, {"lm_head.weight": torch.zeros(64, 32, dtype=dtype)})
    with pytest.raises(UserError, match=r"model\.safetensors: tensor 'lm_head\.weight' is of type (BOOL|I32|I64)"):
        from_pretrained(tmp_path)


def test_a_model_that_bagels_layout_cannot_say_is_not_written_in_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no rope over rows and columns, which model 'toy' has \(grid_rope\)"):
        save_pretrained(random_model(), tmp_path / "bagel", layout="bagel")
    assert not (tmp_path / "bagel").exists()
    save_pretrained(random_model(), tmp_path / "native")
    assert from_pretrained(tmp_path / "native").config.decoder.grid_rope


def test_the_latent_table_can_be_rebuilt_for_another_grid(tmp_path: Path) -> None:
    model = random_model(config=AS_BAGEL).eval()
    save_pretrained(model, tmp_path, layout="bagel")
    wider = from_pretrained(tmp_path, latent_side=7)
    assert wider.config.latents.side == 7 and same_outputs(model, wider)
    make = Maker(0)
    with torch.no_grad():
        assert len(wider(*make.batch([[make.vae(7, 6)]])).grouped_TD) == 44
    with pytest.raises(ValueError, match="7 x 6 tokens but the position table has 4 x 4"):
        model(*make.batch([[make.vae(7, 6)]]))
    save_pretrained(wider, tmp_path / "wider", layout="bagel")
    assert from_pretrained(tmp_path / "wider").config.latents.side == 7


@pytest.mark.parametrize(
    "said", [{"max_latent_size": 4}, {"max_latent_size": 64}, {}], ids=["equal", "larger", "unsaid"]
)
@pytest.mark.parametrize("stored", [True, False])
def test_a_position_table_is_computed_where_it_is_not_stored(
    stored: bool, said: dict[str, int], tmp_path: Path
) -> None:
    """Folders of fine-tuned models lack the tables, or say the side of the released model."""
    model = random_model(config=AS_BAGEL).eval()
    save_pretrained(model, tmp_path, layout="bagel")
    extra = ("latent_patch_size",)
    edited(tmp_path / "bagel_config.json", lambda values: {name: values[name] for name in extra} | said)
    if not stored:
        tensors = load_file(tmp_path / "ema.safetensors")
        save_file({name: t for name, t in tensors.items() if "_pos_embed" not in name}, tmp_path / "ema.safetensors")
    loaded = from_pretrained(tmp_path)
    assert loaded.config.latents.side == (4 if stored else said.get("max_latent_size", 64))
    assert loaded.config.vision.side == AS_BAGEL.vision.side and same_outputs(model, loaded)
    assert from_pretrained(tmp_path, latent_side=7).config.latents.side == 7


def test_a_position_table_that_is_not_sin_cos_is_an_error(tmp_path: Path) -> None:
    save_pretrained(random_model(config=AS_BAGEL), tmp_path, layout="bagel")
    tensors = load_file(tmp_path / "ema.safetensors")
    tensors["vit_pos_embed.pos_embed"] = tensors["vit_pos_embed.pos_embed"].roll(1, 0)
    save_file(tensors, tmp_path / "ema.safetensors")
    with pytest.raises(ValueError, match=r"'vit_pos_embed.pos_embed' is not the fixed 2-D sin-cos table"):
        from_pretrained(tmp_path)


def test_a_configuration_file_with_an_unknown_key_is_an_error() -> None:
    values = dataclasses.asdict(CONFIG)
    assert typed(ModelConfig, json.loads(json.dumps(values))) == CONFIG
    values["decoder"]["heds"] = values["decoder"].pop("heads")
    with pytest.raises(ValueError, match=r"unknown model.decoder setting 'heds' \(did you mean 'heads'\?\)"):
        typed(ModelConfig, values, "model")
    with pytest.raises(ValueError, match=r"unknown model preset 'smal' \(did you mean 'small'\?\)"):
        presets["smal"]


def test_an_export_carries_codec_and_tokenizer(tmp_path: Path) -> None:
    source = tmp_path / "tokenizer"
    source.mkdir()
    (source / "tokenizer.json").write_text("{}")
    codec = PatchPca.fit([Maker(0).random(3, 16, 16)], patch=2, channels=3)
    save_pretrained(random_model(), tmp_path / "out", codec=codec, tokenizer=source)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    loaded = load_codec(tmp_path / "out")
    assert torch.equal(loaded.basis_Pz, codec.basis_Pz) and loaded.scale == codec.scale


MEMORY_PROGRAM = """
import resource, sys
from pathlib import Path
import torch
from ipt.model.checkpoint import build_on_meta, from_pretrained
from ipt.model.vision import sincos_table
torch.set_num_threads(1)
sincos_table(2, 8)
build_on_meta(from_pretrained(Path(sys.argv[1])).config)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
model = from_pretrained(Path(sys.argv[2]))
print(peak() - before)
"""


def test_loading_needs_less_than_a_fifth_more_than_the_file(tmp_path: Path) -> None:
    wide = dataclasses.replace(AS_BAGEL.decoder, hidden=1024, intermediate=2560, layers=6, vocab=2048)
    config: ModelConfig = dataclasses.replace(CONFIG, decoder=wide)
    model = build_on_meta(config).bfloat16()
    save_pretrained(random_model(), tmp_path / "toy")
    save_pretrained(materialise(model, "cpu"), tmp_path / "big", layout="bagel")
    (file,) = (tmp_path / "big").glob("*.safetensors")
    command = [sys.executable, "-c", MEMORY_PROGRAM, str(tmp_path / "toy"), str(tmp_path / "big")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    size = file.stat().st_size
    assert size > 1e8
    assert int(done.stdout) < 1.2 * size, f"{int(done.stdout) / size:.2f} times the file"


LEAN_PROGRAM = """
import sys
from pathlib import Path
from ipt.model import checkpoint, vision
made, plain = [], vision.sincos_table
vision.sincos_table = checkpoint.sincos_table = lambda *sizes: made.append(sizes) or plain(*sizes)
model = checkpoint.from_pretrained(Path(sys.argv[1]))
assert not {"torch._dynamo", "sympy"} & set(sys.modules), "the compiler was imported"
print(len(made))
"""


def test_loading_imports_no_compiler_and_computes_each_table_once(tmp_path: Path) -> None:
    save_pretrained(random_model(config=AS_BAGEL), tmp_path, layout="bagel")
    command = [sys.executable, "-c", LEAN_PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert int(done.stdout) == 2


@pytest.mark.parametrize("layout", ["native", "bagel"])
def test_weights_are_mapped_as_they_are_stored_and_the_file_is_never_written_to(tmp_path: Path, layout: Layout) -> None:
    source = random_model(config=AS_BAGEL).eval()
    save_pretrained(source, tmp_path, layout=layout)
    (file,) = tmp_path.glob("*.safetensors")
    before = file.read_bytes()
    mapped, copied = from_pretrained(tmp_path), from_pretrained(tmp_path, dtype=torch.float64)
    header = json.loads(before[8 : 8 + int.from_bytes(before[:8], "little")])
    theirs = StoredModel.in_folder(tmp_path).names
    starts = {name: t.data_ptr() - header[theirs[name]]["data_offsets"][0] for name, t in mapped.state_dict().items()}
    assert len(starts) > 50 and len(set(starts.values())) == 1  # all where they stand in one image of the file
    assert all(tensor.dtype == torch.float64 for tensor in copied.state_dict().values())
    assert all(parameter.requires_grad for parameter in mapped.parameters()) and same_outputs(source, mapped)
    with torch.no_grad():
        mapped.lm_head.weight.zero_()
    assert file.read_bytes() == before
    again = from_pretrained(tmp_path)
    save_pretrained(mapped, tmp_path, layout=layout)
    assert same_outputs(source, again) and not from_pretrained(tmp_path).lm_head.weight.any()


def test_a_checkpoint_of_bagels_trainer_without_image_generation_is_loaded(tmp_path: Path) -> None:
    """``Bagel.__init__`` makes no ``latent_pos_embed``, ``vae2llm``, ``llm2vae`` and ``time_embedder`` with
    ``visual_gen=False``."""
    whole = random_model(config=AS_BAGEL).eval()
    save_pretrained(whole, tmp_path, layout="bagel")
    tensors = load_file(tmp_path / "ema.safetensors")
    latent = ("latent_pos_embed.", "vae2llm.", "llm2vae.", "time_embedder.")
    save_file({n: t for n, t in tensors.items() if not n.startswith(latent)}, tmp_path / "ema.safetensors")
    extra, vae = tmp_path / "bagel_config.json", {"z_channels": AS_BAGEL.latents.channels, "downsample": 2}
    extra.write_text(json.dumps({**json.loads(extra.read_text()), "visual_gen": False}))
    (tmp_path / "vae_config.json").write_text(json.dumps(vae))
    stored, loaded = StoredModel.in_folder(tmp_path), from_pretrained(tmp_path)
    assert not stored.draws and loaded.config.latents == dataclasses.replace(AS_BAGEL.latents, downsample=2)
    make = Maker(0)
    batch = make.batch([[make.vit(2, 2), make.text(3)]])
    with torch.no_grad():
        assert torch.equal(loaded(*batch).grouped_TD, whole(*batch).grouped_TD)
    fresh = {name: value for name, value in loaded.named_parameters() if name not in stored.names}
    assert len(fresh) == 8 and not fresh["latent_out.weight"].any() and fresh["time_embedder.mlp.0.weight"].std() > 0
    assert all(torch.equal(value, from_pretrained(tmp_path).get_parameter(name)) for name, value in fresh.items())
    save_file({n: t for n, t in tensors.items() if not n.startswith("vae2llm.")}, tmp_path / "ema.safetensors")
    with pytest.raises(ValueError, match=r"tensor 'vae2llm.weight' is missing"):
        from_pretrained(tmp_path)


def test_a_model_from_scratch_is_reproducible() -> None:
    first, second, other = (from_scratch(CONFIG, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert same_outputs(first, second) and not same_outputs(first, other)
    fresh = UnifiedModel(CONFIG)
    fresh.initialise(torch.Generator().manual_seed(0))
    assert same_outputs(first, fresh)
