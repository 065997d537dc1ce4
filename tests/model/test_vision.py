"""The vision tower against transformers' SigLIP, and packed images against each alone."""

from __future__ import annotations

import torch

from ipt.model.vision import VisionTower
from ipt.sequence.pictures import grid_of, patchify
from tests.model.golden_set import assert_close
from tests.model.toy import CONFIG, Maker, model


@torch.no_grad()
def test_equals_transformers_on_a_square_image() -> None:
    """Patch weights go from (row, column, channel) to a convolution; no pooling head; post_layernorm is applied."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    c = CONFIG.vision
    reference = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=c.hidden,
            intermediate_size=c.intermediate,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            patch_size=c.patch,
            image_size=c.side * c.patch,
            vision_use_head=False,
        )
    ).eval()
    tower: VisionTower = model().vision
    state = {}
    for name, tensor in tower.state_dict().items():
        inside = name.startswith(("patch_embedding", "position_embedding"))
        state[f"{'embeddings.' if inside else 'encoder.' if name.startswith('layers') else ''}{name}"] = tensor
    weight = state["embeddings.patch_embedding.weight"].unflatten(1, (c.patch, c.patch, 3))
    state["embeddings.patch_embedding.weight"] = weight.permute(0, 3, 1, 2)
    target = getattr(reference, "vision_model", reference)
    target.load_state_dict(state)
    image = Maker(0).random(3, c.side * c.patch, c.side * c.patch)
    ours = tower(patchify(image, c.patch), [grid_of(image, c.patch)], "sdpa")
    assert_close(ours, reference(pixel_values=image[None]).last_hidden_state[0], 1e-5, "features")


@torch.no_grad()
def test_images_packed_equal_each_alone() -> None:
    make, tower, patch = Maker(1), model().vision, CONFIG.vision.patch
    images = [make.random(3, 4 * rows, 4 * columns) for rows, columns in ((2, 3), (1, 1), (5, 5), (3, 2))]
    grids = [grid_of(image, patch) for image in images]
    packed = tower(torch.cat([patchify(image, patch) for image in images]), grids, "sdpa")
    alone = [tower(patchify(image, patch), [grid], "sdpa") for image, grid in zip(images, grids, strict=True)]
    assert_close(packed, torch.cat(alone), 1e-5, "features")
