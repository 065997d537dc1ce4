"""Pictures wait in segments and become pixels and latents; caching them changes nothing."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ipt.common.images import BadImage, encode_image
from ipt.sequence.batch import PackedBatch, lay_out
from ipt.sequence.pictures import Picture, normalised, shrunk_size, to_pixels
from ipt.sequence.segments import (
    Kind,
    Latents,
    Pixels,
    Segment,
    SpecialTokens,
    TokenIds,
    num_tokens,
    with_latents,
)
from ipt.sequence.settings import Geometry
from ipt.sequence.spans import Loss

TOKENS, GEOMETRY = SpecialTokens(1, 2, 3, 4), Geometry(4, 2, 5, latent_downsample=2)


def picture(seed: int, width: int = 8, height: int = 12, *sizes: tuple[int, int]) -> Picture:
    data = encode_image(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
    return Picture(data, sizes or ((width, height),))


def segments() -> list[Segment]:
    return [
        Segment(Kind.VAE, picture(0)),
        Segment(Kind.VIT, picture(0)),
        Segment(Kind.TEXT, TokenIds(torch.tensor([7, 8]))),
        Segment(Kind.VAE_NOISED, picture(1), loss=Loss.FLOW),
        Segment(Kind.VAE, picture(1)),
    ]


def encode(images: Sequence[Tensor]) -> list[Tensor]:
    """Five channels of the top left pixel of every 2 x 2 cell."""
    return [torch.cat([image, image[:2]])[:, ::2, ::2] for image in images]


def by_hand(source: list[Segment]) -> list[Segment]:
    """The same sample with latents and pixels in it."""
    made = []
    for segment in source:
        payload = segment.payload
        if isinstance(payload, Picture):
            pixels = normalised(payload.pixels())
            payload = Pixels(pixels) if segment.kind is Kind.VIT else Latents(encode([pixels])[0])
        made.append(Segment(segment.kind, payload, segment.role, segment.loss))
    return made


def assert_same(ours: PackedBatch, theirs: PackedBatch) -> None:
    for name in ("token_ids_X", "patches_VD", "latents_GD", "labels_C"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert ours.latent_grids == theirs.latent_grids and ours.patch_grids == theirs.patch_grids
    assert ours.pictures == theirs.pictures == ()


def test_encoding_in_the_batch_equals_latents_in_the_segments() -> None:
    for source in (segments(), segments()[:3]):
        seen: list[int] = []

        def counted(images: Sequence[Tensor], seen: list[int] = seen) -> list[Tensor]:
            seen.append(len(images))
            return encode(images)

        reference = lay_out([by_hand(source)], TOKENS, GEOMETRY)
        assert_same(lay_out([source], TOKENS, GEOMETRY).encoded(counted), reference)
        assert seen == [len({s.payload for s in source if s.kind in (Kind.VAE, Kind.VAE_NOISED)})]
        assert_same(reference.encoded(counted), reference)


def test_a_latent_cache_replaces_the_codec() -> None:
    cache = {picture(0).key: encode([normalised(picture(0).pixels())])[0]}
    partly = lay_out([with_latents(segments(), lambda p: cache.get(p.key))], TOKENS, GEOMETRY)
    assert len(partly.pictures) == 1 and partly.picture_of == (-1, 0, 0)
    assert_same(partly.encoded(encode), lay_out([by_hand(segments())], TOKENS, GEOMETRY))


def test_tokens_are_counted_without_decoding() -> None:
    broken = [
        Segment(kind, Picture(b"no image", ((8, 12),), "sample 'x', field 'images[0]'"))
        for kind in (Kind.VAE, Kind.VIT)
    ]
    assert [segment.num_tokens(GEOMETRY) for segment in broken] == [8, 8]
    assert num_tokens(segments(), GEOMETRY) == len(lay_out([segments()], TOKENS, GEOMETRY).spans.span_of)
    with pytest.raises(BadImage, match=r"sample 'x', field 'images\[0\]': not a PNG"):
        lay_out([broken], TOKENS, GEOMETRY)


def test_keys_name_content_and_sizes() -> None:
    same, other = picture(0), picture(0, 8, 12, (4, 8))
    assert picture(0).key == same.key and same == picture(0)
    assert len({same.key, picture(1).key, other.key, picture(0, 8, 12, (8, 12), (4, 8)).key}) == 4


def test_pixels_are_resized_step_by_step() -> None:
    small = picture(0, 8, 8, (4, 4), (8, 8)).pixels()
    assert small.shape == (3, 8, 8) and small.dtype == torch.uint8
    assert not torch.equal(small, picture(0, 8, 8).pixels())
    twice = to_pixels(Image.fromarray(small.permute(1, 2, 0).numpy()))
    assert torch.equal(normalised(small), twice)


def test_what_is_not_encoded_cannot_be_used() -> None:
    batch = lay_out([segments()], TOKENS, GEOMETRY)
    for asked in (batch.noised_latents, batch.seen_latents):
        with pytest.raises(ValueError, match="2 pictures of the batch have no latents yet; call encoded first"):
            asked()
    with pytest.raises(ValueError, match="the codec and the model's geometry do not fit together"):
        batch.encoded(lambda images: [torch.zeros(4, 6, 4) for _ in images])
    moved = batch.to("meta")
    assert all(p.device.type == "meta" for p in (*moved.pictures, moved.latents_GD))


def test_a_shrunk_picture_is_that_of_lanczos_and_then_of_its_sizes() -> None:
    plain = picture(3, 40, 30, (16, 12))
    shrunk = Picture(plain.data, plain.sizes, shrunk=(20, 15))
    with Image.open(io.BytesIO(plain.data)) as image:
        expected = image.resize((20, 15), Image.Resampling.LANCZOS).resize((16, 12), Image.Resampling.BICUBIC)
    assert torch.equal(shrunk.pixels(), torch.from_numpy(np.array(expected)).permute(2, 0, 1))
    assert not torch.equal(shrunk.pixels(), plain.pixels()) and shrunk.key != plain.key
    assert shrunk_size((1000, 500), 512) == (512, 256) and shrunk_size((300, 400), 512) == (300, 400)
