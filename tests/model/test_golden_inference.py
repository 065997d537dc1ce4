"""KV-cache inference of the reference: greedy decoding, guided sampling with every renorm, and the IPT loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ipt.flow.guidance import Guidance
from ipt.flow.path import schedule
from ipt.model.cache import Context, KVCache, extend
from ipt.model.sampling import sample_latents
from ipt.sequence.batch import lay_out, single_tokens
from ipt.sequence.pictures import unpatchify
from tests.model.golden_set import FOLDER, FORWARD, TRAJECTORY, assert_close, load, model, segment, special_tokens

pytestmark = pytest.mark.usefixtures("_no_grad")


@pytest.fixture
def _no_grad() -> Any:
    with torch.no_grad():
        yield


def new_cache() -> KVCache:
    return KVCache(model().config.decoder, torch.empty(0))


def prefill(cache: KVCache, context: Context, entries: list[dict], tensors: dict[str, Tensor]) -> Context:
    """One row: every segment by a call of its own."""
    for entry in entries:
        batch = lay_out([[segment(entry, tensors)]], special_tokens(), model().config.geometry, context.positions)
        _, context = extend(model(), batch, cache, context)
    return context


def greedy(cache: KVCache, context: Context, max_length: int, stop: int) -> tuple[list[int], Tensor, Context]:
    """Ids that were fed (bos first), the logits after each, and the context that includes them."""
    token, ids, logits = special_tokens().bos, [], []
    while len(ids) < max_length:
        batch = single_tokens(torch.tensor([token]), context.positions, model().config.geometry)
        output, context = extend(model(), batch, cache, context)
        ids.append(token)
        logits.append(output.logits_CV[0])
        token = int(logits[-1].argmax())
        if token == stop:
            break
    return ids, torch.stack(logits), context


def test_vqa_cache_and_greedy_ids() -> None:
    info, tensors = load("infer_vqa")
    cache = new_cache()
    context = prefill(cache, cache.empty(1), info["context"], tensors)
    assert context.lengths == (info["kv_len_after_prefill"],)
    assert context.positions == (info["rope_after_prefill"],)
    for which, layer in (("layer0", 0), ("last", -1)):
        for name, storage in (("k", cache.keys_ARMKH), ("v", cache.values_ARMKH)):
            assert_close(storage[layer, 0, : context.lengths[0]], tensors[f"out.{name}_cache_{which}"], FORWARD, name)
    ids, logits, _ = greedy(cache, context, info["max_length"], info["eos_token_id"])
    assert ids == tensors["out.generated_ids"].tolist()
    assert_close(logits, tensors["out.logits"], FORWARD, "logits")
    stopped, _, _ = greedy(cache, context, info["max_length"], info["custom_eos_token_id"])
    assert stopped == tensors["out.generated_ids_custom_eos"].tolist()


def guidance_of(arguments: dict[str, Any]) -> Guidance:
    """An image scale beside a text scale of 1 is ignored by the reference and refused by us."""
    start, end = arguments["cfg_interval"]
    text_scale = arguments["cfg_text_scale"]
    return Guidance(
        text_scale,
        arguments["cfg_img_scale"] if text_scale > 1 else 1.0,
        start,
        end,
        arguments["cfg_renorm_type"],
        arguments["cfg_renorm_min"],
    )


def draw(
    cache: KVCache, contexts: list[Context], arguments: dict[str, Any], grid: tuple[int, int], noise: Tensor
) -> tuple[Tensor, Tensor]:
    velocities: list[Tensor] = []
    tokens = sample_latents(
        model(),
        cache,
        contexts[0],
        noise[None],
        grid,
        schedule(arguments["num_timesteps"], arguments["timestep_shift"]),
        special_tokens(),
        guidance_of(arguments),
        contexts[1],
        contexts[2],
        observe=lambda step, v, x: velocities.append(v[0]),
    )
    return tokens[0], torch.stack(velocities)


@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name in ("infer_edit_cfg", "infer_t2i") for variant in load(name)[0]["variants"]],
)
def test_guided_sampling(name: str, variant: str) -> None:
    info, tensors = load(name)
    cache = new_cache()
    keys = ("context", "cfg_text_context", "cfg_img_context")
    contexts = [prefill(cache, cache.empty(1), info[key], tensors) for key in keys]
    grid, geometry = tuple(info["latent_grid_hw"]), model().config.geometry
    tokens, velocities = draw(cache, contexts, info["variants"][variant], grid, tensors["in.init_noise"])
    assert_close(velocities, tensors[f"out.{variant}.velocities"], TRAJECTORY, "velocities")
    assert_close(tokens, tensors[f"out.{variant}.latent_tokens"], TRAJECTORY, "latent tokens")
    latent = unpatchify(tokens, grid, geometry.latent_patch)
    assert_close(latent, tensors[f"out.{variant}.latent"], TRAJECTORY, "latent")


@pytest.mark.parametrize("refeed", [True, False], ids=["refed", "cache-kept"])
def test_ipt_loop(refeed: bool) -> None:
    """Think, imagine, look at it, answer. Keeping the thought's own cache equals feeding it again as a whole segment."""
    info, tensors = load("infer_ipt_loop")
    cache, tokens, geometry = new_cache(), special_tokens(), model().config.geometry
    context, snapshot = cache.empty(1), None
    for step, following in zip(info["steps"], [*info["steps"][1:], {}], strict=True):
        if step["op"] == "snapshot_cfg_text_context":
            snapshot = context
        elif step["op"] == "generate_text":
            ids, logits, extended = greedy(cache, context, step["max_length"], tokens.eos)
            assert ids == tensors[step["expect"]].tolist()
            assert_close(logits, tensors[step["expect"].replace("_ids", "_logits")], FORWARD, step["expect"])
            if not refeed and following.get("op") == "prefill":
                batch = single_tokens(torch.tensor([tokens.eos]), extended.positions, geometry)
                _, context = extend(model(), batch, cache, extended)
        elif step["op"] == "generate_image":
            images = prefill(cache, cache.empty(1), step["cfg_img_context"], tensors)
            stride = geometry.latent_patch * model().config.latents.downsample
            height, width = (side // stride for side in step["image_size_hw"])
            drawn, velocities = draw(
                cache, [context, snapshot, images], step["args"], (height, width), tensors["in.init_noise"]
            )
            assert_close(velocities, tensors["out.velocities"], TRAJECTORY, "velocities")
            latent = unpatchify(drawn, (height, width), geometry.latent_patch)
            assert_close(latent, tensors[step["expect"]], TRAJECTORY, step["expect"])
        elif refeed or step["type"] != "text" or "note" not in step:
            context = prefill(cache, context, [step], tensors)
    assert context.lengths == (info["kv_len_before_answer"],)
    assert context.positions == (info["rope_before_answer"],)


def test_the_fixture_set_is_whole() -> None:
    assert len(list(FOLDER.glob("train_*.json"))) == 7
