"""The mode `discrete`: what it writes of a picture, runs from nothing and from a model without codes, and mixtures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ipt.common.errors import UserError
from ipt.common.images import decode_image
from ipt.imagination.modes import modes
from ipt.imagination.modes.discrete import Discrete, DiscreteSettings
from ipt.imagination.modes.ipt import SelfMade
from ipt.inference.checkpoint import load_checkpoint
from ipt.inference.engine import Engine
from ipt.inference.settings import ModeSettings
from ipt.model.codes import codes_shape, load_codes
from ipt.model.config import CodesConfig
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.samples.store import seal, write_shard
from ipt.sequence.latent_cache import CODES, LatentWriter, code_pictures
from ipt.sequence.segments import Kind
from ipt.training.build import check_settings, make_trainer, run
from ipt.training.config import TrainConfig, train_config
from ipt.training.distributed import World
from ipt.training.encoding import write_cache
from ipt.training.plan import plan
from ipt.training.records import read_records
from tests.imagination.examples import GEOMETRY, example, noise_picture, renderer
from tests.model.test_codes import vq


def discrete(**settings: Any) -> Discrete:
    return Discrete(renderer(), DiscreteSettings(**settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "hsv"}, "discrete.target is rgb or grey or depth, not 'hsv'"),
        ({"target": "depth"}, "target=depth and imagination.discrete.depth_maps=FOLDER go together"),
        ({"depth_maps": "x"}, "target=depth and imagination.discrete.depth_maps=FOLDER go together"),
        ({"codes": 1}, "needs 2 codes and patch=1 at least, got 1 and None"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DiscreteSettings(**settings)


def test_codes_that_do_not_divide_a_picture_are_named_before_anything_is_trained() -> None:
    made = renderer()
    made.geometry = replace(GEOMETRY, code_stride=3)
    with pytest.raises(
        UserError, match=r"codes of 3 x 3 pixels do not divide the imaginations of 8 x 8 pixels of task pet"
    ):
        Discrete(made)


def test_the_picture_is_written_in_colours_in_grey_or_as_its_depth(tmp_path: Path) -> None:
    sample = example(imagination=SampleImage(noise_picture(3), "view"))
    pixels = decode_image(sample.imagination.data).astype(float)

    def target(made: Discrete) -> np.ndarray:
        (codes,) = (s for s in made.segments(sample, 0) if s.kind is Kind.CODES)
        return decode_image(codes.payload.data).astype(float)  # type: ignore[union-attr]

    np.testing.assert_array_equal(target(discrete()), pixels)
    grey = target(discrete(target="grey"))
    luma = 0.299 * pixels[..., 0] + 0.587 * pixels[..., 1] + 0.114 * pixels[..., 2]
    assert np.ptp(grey, axis=-1).max() == 0 and np.abs(grey[..., 0] - luma).max() <= 0.5
    deep = discrete(target="depth", depth_maps=tmp_path)
    with pytest.raises(UserError, match=rf"sample 'pet-0': no depth map at {tmp_path}/pet-0.png"):
        deep.segments(sample, 0)
    SelfMade(tmp_path).write(sample.id, SampleImage(noise_picture(4), "view"))
    np.testing.assert_array_equal(target(deep), decode_image(noise_picture(4)))


def scene(number: int) -> SpatialSample:
    plain = example()
    return replace(
        plain,
        id=f"pet/{number}",
        images=(SampleImage(noise_picture(number), "observation"),),
        imagination=SampleImage(noise_picture(100 + number % 4), "view"),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shard(folder / "train-00000.parquet", [scene(n) for n in range(12)])
    seal(folder, {})
    return folder


Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def config(data: Path) -> Make:
    def make(folder: Path, names: tuple[str, ...] = ("discrete",), **changes: Any) -> TrainConfig:
        values: dict[str, Any] = {
            "output_dir": str(folder),
            "task": {"names": ["pet"]},
            "data": {"train": str(data), "profile": "brief"},
            "model": {"preset": "micro"},
            "imagination": {"modes": dict.fromkeys(names, 1.0)},
            "loader": {"budget": 1024, "workers": 0},
            "resolution": {"input_side": 16, "vit_side": 16, "vit_min_side": 8, "imagination": 2},
            "sequence": {"observe": ["vit"], "max_sample_tokens": 1024},
            "trainer": {"steps": 3},
            "ema": {"decay": 0.0},
        }
        if "discrete" in names:
            values["imagination"]["discrete"] = {"codes": 6, "patch": 4}
        return train_config({**values, **{key: {**values.get(key, {}), **own} for key, own in changes.items()}})

    return make


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_records(folder / "metrics.jsonl")]


def test_a_run_trains_its_codes_and_its_model_writes_pictures_in_them(config: Make, data: Path, tmp_path: Path) -> None:
    """From nothing; then with codes that are cached, to the same losses; then from it, with adapters."""
    made = config(tmp_path / "run")
    run(made)
    kept = load_codes(tmp_path / "run" / "model")
    assert kept is not None and kept.shape == CodesConfig(6, 4) == codes_shape(tmp_path / "run" / "assets")
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.codes is not None and checkpoint.codes.digest == kept.digest
    mode = ModeSettings("gt_imagination")
    answered = list(Engine(checkpoint, mode, 0, 4).answer([scene(n) for n in range(3)]))
    assert [each.prediction.error for each in answered] == [None] * 3
    trainer, assets = make_trainer(config(tmp_path / "other"), World())
    assert assets.codes is not None
    writer = LatentWriter(tmp_path / "cache" / CODES, assets.codes.digest, "again", "int32")
    part = trainer.source.loader.rows.parts[0]  # type: ignore[attr-defined]
    reader, member = part.samples, part.segmenter.members[0]
    assert write_cache(reader, [member], assets.codes, writer, code_pictures) == (4, [])  # type: ignore[arg-type]
    writer.close()
    run(config(tmp_path / "cached", data={"cache": str(tmp_path / "cache")}))
    assert losses(tmp_path / "cached") == losses(tmp_path / "run")
    again = config(
        tmp_path / "again", model={"init": str(tmp_path / "run" / "model"), "codec": "init"}, tuning={"kind": "lora"}
    )
    run(again)
    after = load_checkpoint(tmp_path / "again")
    assert after.codes is not None and after.codes.digest == kept.digest and after.model.codes is not None
    assert checkpoint.model.codes is not None
    assert not torch.equal(after.model.codes.head.weight, checkpoint.model.codes.head.weight)
    assert torch.equal(after.model.lm_head.weight, checkpoint.model.lm_head.weight)


def test_a_model_without_codes_learns_them_and_other_codes_are_refused(config: Make, tmp_path: Path) -> None:
    run(config(tmp_path / "plain", ("label_only",)))
    start = {"init": str(tmp_path / "plain" / "model"), "codec": "init"}
    vq().save(tmp_path / "vqgan")
    book = {"codec": str(tmp_path / "vqgan" / "codes")}
    made = config(tmp_path / "vq", model=start, imagination={"discrete": book})
    run(made)
    grown = load_checkpoint(tmp_path / "vq")
    assert grown.codes is not None and grown.codes.shape == CodesConfig(12, 4) and grown.codes.digest == vq().digest
    vq(num_vq_embeddings=9).save(tmp_path / "nine")
    vq(vq_embed_dim=2).save(tmp_path / "two")
    there = {"init": str(tmp_path / "vq" / "model"), "codec": "init"}
    for name, message in (
        ("nine", r"nine/codes has 9 codes of 4 pixels, the vocabulary of model.init=.* 12 of 4: leave the codec out"),
        ("two", r"two/codes is not that of the codes in model.init=.*: leave it out"),
        ("none", r"none/codes holds no codec with codes: expected codes.safetensors"),
    ):
        wrong = config(
            tmp_path / f"wrong-{name}", model=there, imagination={"discrete": {"codec": str(tmp_path / name / "codes")}}
        )
        with pytest.raises((UserError, FileNotFoundError), match=message):
            run(wrong)
    assert "codes" in plan(replace(made, dry_run=True))
    check_settings(made, tmp_path / "vq")


def test_a_mixture_of_all_modes_trains_and_resumes_bit_by_bit(config: Make, tmp_path: Path) -> None:
    names = tuple(name for name in modes if modes[name].answers)
    assert len(names) >= 6 and {"latent", "discrete", "ipt"} <= {*names}
    whole = config(tmp_path / "whole", names, trainer={"steps": 4})
    run(whole)
    run(config(tmp_path / "parts", names, trainer={"steps": 2}))
    run(config(tmp_path / "parts", names, trainer={"steps": 4}))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    one, other = (load_checkpoint(tmp_path / name).model.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    kinds = read_records(tmp_path / "whole" / "metrics.jsonl")
    assert all(sum(r["tokens"][kind] for r in kinds) > 0 for kind in ("slot", "noised", "trained_text"))
