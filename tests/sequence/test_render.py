"""Sizes, the token caps, and guidance dropout."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt.common.images import MAX_PIXELS, BadImage
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.batch import lay_out
from ipt.sequence.pictures import Picture, Size
from ipt.sequence.render import Renderer, guidance_group
from ipt.sequence.segments import Kind, RejectedSample, Segment, num_tokens
from ipt.sequence.settings import Geometry, GuidanceDropout, Resolution, SequenceConfig
from ipt.sequence.spans import Loss
from tests.imagination.examples import CONFIG, GEOMETRY, PROFILES, byte_tokenizer, example, mode, plain

BAGEL = Geometry(vit_patch=14, latent_patch=2, latent_channels=16)


def bagel(**changes: object) -> Renderer:
    return Renderer(byte_tokenizer(), BAGEL, PROFILES["default"], SequenceConfig(**changes))  # type: ignore[arg-type]


def sizes(segments: list[Segment]) -> list[Size]:
    return [segment.payload.size for segment in segments if isinstance(segment.payload, Picture)]


def photo(width: int, height: int, count: int = 1) -> SpatialSample:
    return example(images=tuple(SampleImage(plain(k, 0, 0, width, height), "frame") for k in range(count)))


def test_sizes_and_tokens_are_those_of_the_paper() -> None:
    """ipt.md section 3.4: an input at 1024 has 5,465 image tokens, at 512 2,393; the imagination's latents 64^2 ... 4^2."""
    for side, tokens in ((1024, 5465), (512, 2393)):
        made = bagel(resolutions={"pet": Resolution(input_side=side)})
        images = [s for s in made.prompt(photo(1024, 1024), "ipt") if s.kind is not Kind.TEXT]
        assert num_tokens(images, BAGEL) == tokens + 4  # and two markers per image
    for latents in (4, 16, 32, 64):
        made = bagel(resolutions={"pet": Resolution(imagination=latents)})
        noised, shown = (
            made.noised(example(), example().imagination),
            made.imagined("pet", example().imagination, ("vae", "vit")),
        )
        assert noised.grid(BAGEL) == shown[0].grid(BAGEL) == (latents, latents)
        side = min(max(latents * 16, 224), 518) / 14
        assert shown[1].grid(BAGEL) == (round(side), round(side))
        assert shown[1].payload.sizes[0] == (latents * 16, latents * 16)  # type: ignore[union-attr]


def test_inputs_keep_their_shape_and_encoders_are_a_setting() -> None:
    made = bagel(resolutions={"pet": Resolution(input_side=512, input_min_side=128)}, observe=("vit",))
    assert sizes(made.prompt(photo(800, 400), "ipt")) == [(518, 252)]
    made = bagel(resolutions={"pet": Resolution(input_side=512, input_min_side=128)}, observe=("vae", "vit"))
    assert sizes(made.prompt(photo(800, 400), "ipt")) == [(512, 256), (518, 252)]
    assert sizes(made.prompt(replace(photo(800, 400), task="mvc"), "ipt"))[0] == (512, 256)


@given(st.integers(700, 12000), st.integers(1, 8), st.sampled_from([(1024, 1024), (640, 480), (300, 900)]))
def test_oversize_prompts_shrink_together_or_are_rejected(limit: int, count: int, size: Size) -> None:
    sample = photo(*size, count)
    resolutions = {"pet": Resolution(input_side=1024)}
    full = bagel(resolutions=resolutions, max_prompt_tokens=10**6).prompt(sample, "ipt")
    rejecting = bagel(resolutions=resolutions, max_prompt_tokens=limit, oversize="reject")
    shrinking = bagel(resolutions=resolutions, max_prompt_tokens=limit)
    if num_tokens(full, BAGEL) <= limit:
        assert sizes(shrinking.prompt(sample, "ipt")) == sizes(full) == sizes(rejecting.prompt(sample, "ipt"))
        return
    with pytest.raises(
        RejectedSample, match=rf"sample 'pet-0': its prompt has {num_tokens(full, BAGEL)} tokens, at most {limit}"
    ):
        rejecting.prompt(sample, "ipt")
    try:
        small = shrinking.prompt(sample, "ipt")
    except RejectedSample as error:
        assert error.sample_id == "pet-0" and "also at 0.14 of its image sizes" in error.reason
        return
    assert num_tokens(small, BAGEL) <= limit
    assert len(set(sizes(small))) == 2  # one per encoder: all images alike
    assert all(a[0] <= b[0] for a, b in zip(sizes(small), sizes(full), strict=True))


def test_modes_see_the_same_images_of_an_oversize_prompt() -> None:
    made = bagel(max_prompt_tokens=4000)
    prompts = [made.prompt(photo(1024, 1024, 4), name) for name in ("ipt", "text_cot")]
    assert sizes(prompts[0]) == sizes(prompts[1]) != sizes(bagel().prompt(photo(1024, 1024, 4), "ipt"))


def test_a_sample_beyond_its_cap_is_rejected_with_its_length() -> None:
    made, sample = mode("ipt"), example()
    segments = made.segments(sample, 0)
    length = num_tokens(segments, GEOMETRY)
    config = replace(CONFIG, max_sample_tokens=length)
    fits = Renderer(byte_tokenizer(), GEOMETRY, PROFILES["default"], config)
    assert fits.finish(sample, segments, 0) == segments
    tight = Renderer(byte_tokenizer(), GEOMETRY, PROFILES["default"], replace(config, max_sample_tokens=length - 1))
    with pytest.raises(
        RejectedSample, match=f"sample 'pet-0': it has {length} tokens, at most {length - 1} are allowed"
    ):
        tight.finish(sample, segments, 0)


GROUPS = ("text", "observation", "imagination_vae", "imagination_vit")


def test_guidance_dropout_drops_groups_and_nothing_with_a_loss() -> None:
    made, sample = mode("ipt"), example("mvc")
    segments = made.segments(sample, 0)
    for group in GROUPS:
        config = replace(CONFIG, dropout=GuidanceDropout(**{**dict.fromkeys(GROUPS, 0.0), group: 1.0}))
        finished = Renderer(byte_tokenizer(), GEOMETRY, PROFILES["default"], config).finish(sample, segments, 0)
        assert [s.dropped for s in finished] == [guidance_group(s) == group for s in segments]
        assert any(s.dropped for s in finished)
        lay_out([finished], byte_tokenizer().special, GEOMETRY)
    everything = replace(CONFIG, dropout=GuidanceDropout(1.0, 1.0, 1.0, 1.0))
    finished = Renderer(byte_tokenizer(), GEOMETRY, PROFILES["default"], everything).finish(sample, segments, 0)
    assert [s.kind for s in finished if not s.dropped] == [Kind.TEXT, Kind.VAE_NOISED, Kind.TEXT]


def test_a_sample_without_its_question_trains_the_image_alone() -> None:
    made, sample = mode("ipt", dropout=GuidanceDropout(text=1.0)), example()
    segments = made.segments(sample, 0)
    finished = made.renderer.finish(sample, segments, 0)
    assert [s.loss for s in segments if s.loss is not Loss.NONE] == [Loss.CE, Loss.FLOW, Loss.CE]
    assert [s.loss for s in finished if s.loss is not Loss.NONE] == [Loss.FLOW]


@pytest.mark.parametrize("name", ["label_only", "text_cot", "caption", "ipt"])
def test_in_all_rows_the_question_may_go_and_the_loss_of_the_text_stays(name: str) -> None:
    """As ``text_cond_dropout_prob`` acts in BAGEL's ``pack_sequence`` on texts without a loss, in every row."""
    made, lost = mode(name), GuidanceDropout(text=1.0, rows="all")
    segments = made.segments(example(), 0)
    config = replace(CONFIG, dropout=lost)
    finished = Renderer(byte_tokenizer(), GEOMETRY, PROFILES["default"], config).finish(example(), segments, 0)
    assert [s.loss for s in finished] == [s.loss for s in segments]
    assert [s.dropped for s in finished] == [s.kind is Kind.TEXT and s.loss is Loss.NONE for s in segments]
    assert any(s.dropped for s in finished)
    with pytest.raises(ValueError, match=r"unknown sequence.dropout.rows 'each'.*all, drawing"):
        GuidanceDropout(rows="each")


@pytest.mark.parametrize("name", ["label_only", "text_cot", "caption"])
def test_samples_without_a_drawn_image_lose_nothing(name: str) -> None:
    """Guidance has nothing to learn there; the release drops the question of answer-only rows, too (``rows=all``)."""
    made = mode(name, dropout=GuidanceDropout(1.0, 1.0, 1.0, 1.0))
    segments = made.segments(example(), 0)
    assert made.renderer.finish(example(), segments, 0) == segments


def test_dropout_has_its_rate_and_depends_on_seed_epoch_and_sample_alone() -> None:
    made = mode("ipt", dropout=GuidanceDropout(text=0.3, observation=0.2))
    segments = made.segments(example(), 0)

    def dropped(sample: SpatialSample, epoch: int) -> tuple[bool, bool]:
        finished = made.renderer.finish(sample, segments, epoch)
        return finished[0].dropped, finished[1].dropped

    drawn = [dropped(example(), epoch) for epoch in range(400)]
    for share, rate in zip(map(sum, zip(*drawn, strict=True)), (0.3, 0.2), strict=True):
        assert abs(share / 400 - rate) < 4 * (rate * (1 - rate) / 400) ** 0.5
    assert drawn == [dropped(example(), epoch) for epoch in range(400)]
    assert drawn[:50] != [dropped(example(id="other"), epoch) for epoch in range(50)]


def test_images_are_checked_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = mode("label_only")
    for data, message in (
        (b"\x89PNG\r\n\x1a\n no", "not a PNG, JPEG or WebP image|broken"),
        (plain(0, 0, 0, MAX_PIXELS // 1000 + 1, 1000), "pixels, at most 32,000,000 are allowed"),
    ):
        sample = example(images=(SampleImage(plain(1, 0, 0), "a"), SampleImage(data, "b")))
        with pytest.raises(BadImage, match=rf"sample 'pet-0', field 'images\[1\]': .*({message})"):
            made.segments(sample, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observe": ("vae", "vae")}, "observe takes vae and vit, each at most once"),
        ({"oversize": "drop"}, "must be shrink or reject"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceConfig(**changes)  # type: ignore[arg-type]


def test_one_of_several_images_is_shrunk_before_its_encoders_sizes() -> None:
    """The published loader: every input of several is brought to 512 pixels, then each encoder's rule; a single one is not."""
    at = Resolution(input_side=1024, input_min_side=512, several_side=512)
    made = bagel(resolutions={"pet": at}, max_prompt_tokens=100_000)
    alone = made.prompt(photo(1024, 1024), "ipt")
    several = made.prompt(photo(1024, 1024, 3), "ipt")
    assert sizes(alone) == [(1024, 1024), (518, 518)] and sizes(several) == [(512, 512), (518, 518)] * 3
    assert sizes(made.prompt(photo(400, 300, 2), "ipt")) == [(688, 512), (406, 294)] * 2
    shrunk = [s.payload.shrunk for s in (*alone, *several) if isinstance(s.payload, Picture)]
    assert shrunk == [None, None, *[(512, 512)] * 6]
    with pytest.raises(ValueError, match=r"resolution.several_side must be positive, got 0"):
        Resolution(several_side=0)
