"""Laying segments out: what is refused, and the inverse of patchify."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ipt.sequence.batch import NoisedImages, lay_out, single_tokens
from ipt.sequence.pictures import patchify, to_image, to_pixels, unpatchify
from ipt.sequence.segments import Kind, Latents, Pixels, Segment, SpecialTokens, TokenIds
from ipt.sequence.settings import Geometry
from ipt.sequence.spans import Loss

TOKENS, GEOMETRY = SpecialTokens(1, 2, 3, 4), Geometry(vit_patch=4, latent_patch=2, latent_channels=5)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
def test_unpatchify_inverts_patchify(rows: int, columns: int, patch: int, channels: int) -> None:
    image = torch.arange(channels * rows * columns * patch**2).reshape(channels, rows * patch, columns * patch)
    tokens = patchify(image, patch)
    assert tokens.shape == (rows * columns, patch * patch * channels)
    assert torch.equal(unpatchify(tokens, (rows, columns), patch), image)
    assert torch.equal(tokens[0].reshape(patch, patch, channels), image[:, :patch, :patch].permute(1, 2, 0))


def test_pixels_survive_the_round_trip() -> None:
    values = torch.randint(0, 256, (3, 5, 7), generator=torch.Generator().manual_seed(0))
    pixels = values.float() / 255 * 2 - 1
    assert (to_pixels(to_image(pixels)) - pixels).abs().max() <= 2.01 / 255


def test_a_segment_refuses_a_loss_it_cannot_carry() -> None:
    ids, image = TokenIds(torch.tensor([5, 6])), Pixels(torch.zeros(3, 4, 4))
    for kind, payload, options, message in [
        (Kind.TEXT, ids, {"loss": Loss.FLOW}, "TEXT segment cannot carry the loss FLOW"),
        (Kind.VIT, image, {"loss": Loss.CE}, "VIT segment cannot carry the loss CE"),
        (Kind.TEXT, ids, {"loss": Loss.CE_WITH_END}, "end_label"),
        (Kind.TEXT, ids, {"loss": Loss.CE, "end_label": 3}, "end_label"),
        (Kind.TEXT, ids, {"loss": Loss.CE, "dropped": True}, "cannot be dropped"),
        (Kind.TEXT, image, {}, "TEXT segment carries TokenIds, not Pixels"),
        (Kind.VIT, Latents(image.values), {}, "VIT segment carries Picture or Pixels, not Latents"),
    ]:
        with pytest.raises(ValueError, match=message):
            Segment(kind, payload, **options)


def test_an_image_must_be_cut_into_whole_patches() -> None:
    with pytest.raises(ValueError, match="6 x 4 cannot be cut into patches of 4"):
        lay_out([[Segment(Kind.VIT, Pixels(torch.zeros(3, 6, 4)))]], TOKENS, GEOMETRY)


def test_noise_must_match_the_noised_images() -> None:
    batch = lay_out([[Segment(Kind.VAE_NOISED, Latents(torch.ones(5, 4, 4)))]], TOKENS, GEOMETRY)
    for noised in (None, NoisedImages(torch.zeros(3, 20), torch.zeros(1))):
        with pytest.raises(ValueError, match=r"1 noised images need x_t \(4, 20\)"):
            batch.seen_latents(noised)


def test_single_tokens_are_laid_out_like_text() -> None:
    """Token by token, at consecutive rope ids, is the text segment."""
    ids = torch.tensor([7, 8, 9])
    text = lay_out([[Segment(Kind.TEXT, TokenIds(ids))]], TOKENS, GEOMETRY)
    for place, token in enumerate(text.token_ids_X):
        batch = single_tokens(token[None], [place], GEOMETRY)
        assert batch.spans.position_ids[0] == text.spans.position_ids[place]
        assert batch.spans.ce_positions.tolist() == [0]
