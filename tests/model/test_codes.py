"""Codes of pictures: their codecs, and a vocabulary that grows by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import VQModel
from safetensors.torch import save_file
from torch import Tensor

from ipt.common.errors import UserError
from ipt.common.files import read_json
from ipt.model.checkpoint import StoredModel, from_pretrained, save_pretrained
from ipt.model.codes import CodeCodec, PatchKMeans, VqCodec, codes_shape, load_codes
from ipt.model.config import CodesConfig
from ipt.model.parts import LoraSettings, TuningSettings, part_of
from ipt.model.tuning import apply_tuning
from ipt.model.weights import root_mean_square
from ipt.sequence.batch import PackedBatch, lay_out
from ipt.sequence.pictures import Picture, patchify
from ipt.sequence.segments import Codes, Kind, Segment
from ipt.sequence.spans import Loss, Role
from tests.imagination.examples import noise_picture
from tests.model.toy import AS_BAGEL, CONFIG, TOKENS, Maker, random_model

CODES = CodesConfig(count=6, stride=4)
GROWN = replace(CONFIG, codes=CODES)


def images(count: int, side: int = 16) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, side, side, generator=generator) * 2 - 1 for _ in range(count)]


def vq(**changes: object) -> VqCodec:
    torch.manual_seed(0)
    sizes = {"block_out_channels": (8, 8, 16), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    return VqCodec(VQModel(**{**sizes, **blocks, "num_vq_embeddings": 12, "vq_embed_dim": 3, **changes}))


@pytest.mark.parametrize("made", [PatchKMeans.fit(images(4), 4, 12), vq(), vq(lookup_from_codebook=True)])
def test_a_codec_is_what_its_folder_says_and_its_digest_its_numbers(made: CodeCodec, tmp_path: Path) -> None:
    assert made.shape == CodesConfig(12, 4)
    made.save(tmp_path)
    loaded = load_codes(tmp_path)
    assert loaded is not None and codes_shape(tmp_path) == made.shape == loaded.shape and loaded.digest == made.digest
    pictures = [*images(2), *images(1, 8)]
    codes = made.encode(pictures)
    assert [each.shape for each in codes] == [(4, 4), (4, 4), (2, 2)] and codes[0].dtype == torch.int64
    for one, other in zip(codes, loaded.encode(pictures), strict=True):
        assert torch.equal(one, other)
    for one, other, picture in zip(made.decode(codes), loaded.decode(codes), pictures, strict=True):
        assert torch.equal(one, other) and one.shape == picture.shape
    assert made.digest != PatchKMeans.fit(images(5), 4, 12).digest != vq(vq_embed_dim=4).digest
    with pytest.raises(UserError):
        made.encode(images(1, 10))


def test_a_patch_has_the_code_of_its_nearest_mean() -> None:
    pictures = images(3)
    made = PatchKMeans.fit(pictures, 4, 5)
    for codes, picture in zip(made.encode(pictures), pictures, strict=True):
        for code, patch in zip(codes.flatten().tolist(), patchify(picture, 4), strict=True):
            distances = [float((patch - centre).square().sum()) for centre in made.centres_KP]
            assert code == int(np.argmin(distances))
    (again,) = made.encode(made.decode(made.encode(pictures[:1])))
    assert torch.equal(again, made.encode(pictures[:1])[0])
    assert torch.equal(made.centres_KP, PatchKMeans.fit(pictures, 4, 5).centres_KP)


def test_a_vqgan_decodes_what_it_would_have_quantised() -> None:
    made, (picture,) = vq(), images(1)
    with torch.no_grad():
        expected = made.vq(picture[None]).sample[0]
    torch.testing.assert_close(made.decode(made.encode([picture]))[0], expected, atol=1e-5, rtol=1e-4)
    assert len(set(made.encode([picture])[0].flatten().tolist())) > 1


def test_what_is_wrong_with_a_codec_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"have 4 different patches of 4 x 4 pixels, too few for 5 codes.*discrete.codes to 4"
    ):
        PatchKMeans.fit(images(1, 8), 4, 5)
    assert load_codes(tmp_path) is None
    with pytest.raises(FileNotFoundError, match=r"holds no codec with codes: expected codes.safetensors or .* VQModel"):
        codes_shape(tmp_path)


def written(loss: Loss = Loss.CE, values: Tensor | None = None, role: Role = Role.IMAGINATION) -> Segment:
    codes = torch.tensor([[0, 5, 2], [3, 3, 1]]) if values is None else values
    return Segment(Kind.CODES, Codes(codes), role, loss)


def packed(segments: list[list[Segment]]) -> PackedBatch:
    return lay_out(segments, TOKENS, GROWN.geometry)


def test_codes_are_written_like_words_between_the_markers_of_an_image() -> None:
    make = Maker(0)
    batch = packed([[make.text(2), written(), make.text(3, loss=Loss.CE)]])
    first = CONFIG.decoder.vocab
    ids = [TOKENS.image_start, *(first + code for code in (0, 5, 2, 3, 3, 1)), TOKENS.image_end]
    assert batch.token_ids_X[4:12].tolist() == ids and batch.labels_C[:7].tolist() == ids[1:]
    assert batch.spans.position_ids.tolist() == list(range(batch.spans.num_tokens))
    assert written().grid(GROWN.geometry) == (2, 3) and written().num_tokens(GROWN.geometry) == 8


def test_pictures_become_codes_wherever_they_are_encoded() -> None:
    """The same batch from codes that are there, and from pictures that waited, one of them twice and one without a loss."""
    codec = PatchKMeans(torch.randn(CODES.count, 48, generator=torch.Generator().manual_seed(1)), CODES.stride)
    one, two = (Picture(noise_picture(seed), ((8, 12),)) for seed in (1, 2))
    make, losses = Maker(1), (Loss.CE, Loss.NONE, Loss.CE)
    text = make.text(2, loss=Loss.CE)
    waiting = [
        [text, Segment(Kind.CODES, each, loss=loss), text] for each, loss in zip((one, two, one), losses, strict=True)
    ]
    found = [
        [s[0], Segment(Kind.CODES, Codes(codec.encode([s[1].payload.decoded / 127.5 - 1])[0]), loss=s[1].loss), s[2]]  # type: ignore[union-attr]
        for s in waiting
    ]
    batch, expected = packed(waiting), packed(found)
    assert batch.waits and len(batch.code_pictures) == 2 and not expected.waits
    coded = batch.to("cpu").coded(codec.encode)
    assert not coded.waits and coded.spans.mode.tolist() == expected.spans.mode.tolist()
    assert torch.equal(coded.token_ids_X, expected.token_ids_X) and torch.equal(coded.labels_C, expected.labels_C)
    assert not torch.equal(batch.token_ids_X, coded.token_ids_X)


def test_words_are_what_they_were_and_codes_have_an_embedding_and_a_head() -> None:
    plain, grown, make = random_model(), random_model(config=GROWN), Maker(2)
    grown.load_state_dict(plain.state_dict(), strict=False)
    text = make.text(4, loss=Loss.CE)
    first = CONFIG.decoder.vocab
    words = packed([[make.vit(), text]])
    torch.testing.assert_close(grown(words).logits_CV[:, :first], plain(words).logits_CV)
    batch = packed([[text, written(), make.text(2, loss=Loss.CE)]])
    output = grown(batch)
    assert output.logits_CV.shape == (len(batch.labels_C), first + CODES.count)
    torch.nn.functional.cross_entropy(output.logits_CV, batch.labels_C).backward()
    assert grown.codes is not None
    rows = grown.codes.embed.weight.grad.abs().sum(1)
    assert (rows > 0).tolist() == [True, True, True, True, False, True]  # code 4 is in no picture
    moved = grown.decoder.embed_tokens.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert set(moved) <= {*batch.token_ids_X.tolist()} and grown.codes.head.weight.grad.any()
    blind = replace(make.text(2, role=Role.ANSWER, loss=Loss.CE), blocked=frozenset({Role.IMAGINATION}))
    one, other = (
        grown(packed([[text, written(Loss.NONE, values), blind]])).logits_CV[-3:]
        for values in (None, torch.ones(2, 3).long())
    )
    assert torch.equal(one, other)


def test_a_checkpoint_without_codes_is_started_from_and_one_with_them_is_kept(tmp_path: Path) -> None:
    save_pretrained(random_model(), tmp_path / "plain")
    save_pretrained(random_model(config=AS_BAGEL), tmp_path / "bagel", layout="bagel")
    for folder, config in (("plain", GROWN), ("bagel", replace(AS_BAGEL, codes=CODES))):
        grown, stored = random_model(seed=1, config=config), StoredModel.in_folder(tmp_path / folder)
        assert stored.config.codes == CodesConfig()
        stored.copy_into(grown)
        assert torch.equal(grown.lm_head.weight, from_pretrained(tmp_path / folder).lm_head.weight)
    assert grown.codes is not None
    deviation = root_mean_square(grown.decoder.embed_tokens.weight)
    grown.codes.reset_parameters(deviation, torch.Generator().manual_seed(0))
    assert root_mean_square(grown.codes.embed.weight) == pytest.approx(deviation, rel=0.2)
    with pytest.raises(UserError, match="BAGEL's layout has no codes of pictures: save the model as 'native'"):
        save_pretrained(grown, tmp_path / "no", layout="bagel")
    save_pretrained(grown, tmp_path / "grown", codes=vq())
    loaded = from_pretrained(tmp_path / "grown")
    assert loaded.config.codes == CODES and loaded.codes is not None
    assert torch.equal(loaded.codes.head.weight, grown.codes.head.weight)
    assert read_json(tmp_path / "grown" / "codes" / "config.json")["_class_name"] == "VQModel"


def test_adapters_leave_codes_to_be_trained_whole() -> None:
    model = apply_tuning(random_model(config=GROWN), TuningSettings("lora", lora=LoraSettings()))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad and ".lora_" not in name}
    assert trained == {"codes.embed.weight", "codes.head.weight"} and {part_of(name) for name in trained} == {"codes"}


def test_codes_that_are_cut_off_or_of_another_kind_are_named(tmp_path: Path) -> None:
    file = tmp_path / "codes.safetensors"
    save_file({"centres": torch.zeros(4, 12)}, file)
    with pytest.raises(UserError, match=r"codes\.safetensors holds no codes of patches"):
        load_codes(tmp_path)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"codes\.safetensors is not a whole safetensors file"):
        load_codes(tmp_path)
