"""Training and inference have the same tokens; the settings of `ipt` do what they say."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ipt.common.images import BadImage
from ipt.imagination.mixture import ImaginationConfig, make_mode
from ipt.imagination.modes.ipt import Ipt, IptSettings, SelfMade
from ipt.samples.sample import BadSample, SampleImage
from ipt.samples.store import SampleReader, write_shard
from ipt.samples.views import Permuted
from ipt.sequence.pictures import Picture, Size
from ipt.sequence.segments import Kind, Segment
from ipt.sequence.settings import GuidanceDropout
from ipt.sequence.spans import Loss, Role
from tests.imagination.examples import ANSWERING, TASKS, example, ipt, mode, noise_picture, plain, renderer
from tests.imagination.recording import Recording, at_inference, same, trained_texts

TRUTH = SampleImage(plain(0, 200, 0), "view")
DRAWN = SampleImage(noise_picture(5), "view")


def draws(image: SampleImage) -> Callable[[int, Size], SampleImage]:
    return lambda row, size: image


def clean(segments: list[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.kind is not Kind.VAE_NOISED]


@pytest.mark.parametrize(("task", "name", "profile"), itertools.product(TASKS, ANSWERING, ["default", "release"]))
def test_inference_has_the_tokens_of_training(task: str, name: str, profile: str) -> None:
    made, sample = mode(name, profile), example(task)
    rows, imagined = at_inference(made, [sample, sample], draws(sample.imagination), n=2)
    assert len(rows) == 4
    for row in rows:
        assert same(row, clean(made.segments(sample, epoch=0)))
    assert [len(images) for images in imagined.images] == [int(made.draws or made.settings.codebook is not None)] * 4


@pytest.mark.parametrize("condition", [("vae", "vit"), ("vit",), ("vae",), ()])
def test_the_answer_sees_every_imagination_through_the_same_encoders(condition: tuple[str, ...]) -> None:
    """Drawn, given and ground-truth images, in training and at inference."""
    made, sample = ipt(settings=IptSettings(condition=condition)), example()  # type: ignore[arg-type]
    texts = trained_texts(made, sample)
    start = Recording.of(made, [sample], [texts[1:]], draws(DRAWN))
    given = made.given(start, [sample], [sample])
    training = [s for s in clean(made.segments(sample, 0)) if s.kind is not Kind.TEXT and s.role is Role.IMAGINATION]
    assert [s.kind.name.lower() for s in training] == list(condition)
    for image, context in ((TRUTH, given.context), (DRAWN, at_inference(made, [sample], draws(DRAWN))[1].context)):
        assert isinstance(context, Recording)
        shown = [s for s in context.rows[0] if s.kind is not Kind.TEXT and s.role is Role.IMAGINATION]
        swapped = [replace(s, payload=replace(s.payload, data=image.data)) for s in training]  # type: ignore[type-var]
        assert same(shown, swapped)


def test_rows_that_announce_no_image_get_none() -> None:
    made, samples = mode("ipt"), [example("pet"), example("mvc")]
    scripts = [trained_texts(made, samples[0]), ["<answer>A</answer>"]]
    imagined = made.imagine(Recording.of(made, samples, scripts, draws(DRAWN)), 1, 0)
    assert imagined.images == ((DRAWN,), ())
    assert [len(row) for row in imagined.context.rows] == [7, 11]  # type: ignore[attr-defined]


def test_a_described_imagination_is_put_into_words_before_the_answer() -> None:
    """Where it is seen: drawn, given, and not where nothing was drawn or nothing may be seen."""
    made, sample = ipt(settings=IptSettings(described=True)), example("pet")
    announced, said = trained_texts(made, sample)
    words = "<image_end><think_image>" + sample.caption + "</think_image>"
    assert said.startswith(words + "<answer>")
    scripts = [[announced, said], ["<answer>A</answer>"]]
    imagined = made.imagine(Recording.of(made, [sample, example("mvc")], scripts, draws(DRAWN)), 1, 0)
    assert imagined.texts == ((announced, words), ("<answer>A</answer>",))
    assert imagined.context.open == (True, False)  # type: ignore[attr-defined]
    given = made.given(Recording.of(made, [sample], [[said]], draws(DRAWN)), [sample], [sample])
    assert given.texts[0][1:] == (words,) and given.leads == ("",)
    hidden = [ipt(settings=IptSettings(described=told, reveal=0.0)).segments(sample, 0) for told in (True, False)]
    assert same(*hidden)
    blind = made.unseen(Recording.of(made, [sample], [[said]], draws(DRAWN)), [sample])
    assert len(blind.texts[0]) == 1 and blind.leads == ("<image_end>",)


def test_images_of_several_sizes_are_drawn_for_their_own_rows() -> None:
    """Tasks may imagine at different sizes within one batch."""
    sizes = {"pet": (8, 8), "mvc": (16, 16)}
    resolutions = {
        task: replace(renderer().config.resolution(task), imagination=side // 4) for task, (side, _) in sizes.items()
    }
    made = Ipt(renderer(resolutions=resolutions))
    samples = [example("mvc"), example("pet"), example("mvc")]

    def draw(row: int, size: Size) -> SampleImage:
        assert size == sizes[samples[row].task]
        return SampleImage(plain(row, row, row, *size), "view")

    imagined = made.imagine(Recording.of(made, samples, [trained_texts(made, s) for s in samples], draw), 1, 0)
    assert [image.pixels()[0, 0, 0] for images in imagined.images for image in images] == [0, 1, 2]


def test_the_noised_target_is_the_truth_and_the_copies_are_self_made(tmp_path: Path) -> None:
    sample, cache = example(), SelfMade(tmp_path)
    made = ipt(settings=IptSettings(source={"self": 1.0}), self_made=cache)
    with pytest.raises(BadImage, match=r"sample 'pet-0': no self-made imagination at .*pet-0\.png"):
        made.segments(sample, 0)
    cache.write(sample.id, DRAWN)
    segments = made.segments(sample, 0)
    noised = [s for s in segments if s.kind is Kind.VAE_NOISED]
    assert [s.payload.data for s in noised] == [sample.imagination.data]  # type: ignore[union-attr]
    rows, _ = at_inference(made, [sample], draws(DRAWN))
    assert same(rows[0], clean(segments))


def test_probabilities_are_those_of_the_settings_and_draws_are_independent(tmp_path: Path) -> None:
    """Each random choice has its own stream: switching one off does not move another."""
    sample, cache = example(), SelfMade(tmp_path)
    cache.write(sample.id, DRAWN)

    def outcome(settings: IptSettings, epoch: int) -> tuple[bool, bool, bool]:
        segments = ipt(settings=settings, self_made=cache).segments(sample, epoch)
        seen = next(s for s in segments if s.kind is Kind.VAE and s.role is Role.IMAGINATION)
        assert isinstance(seen.payload, Picture)
        blocked = segments[-1].blocked
        return seen.payload.data == DRAWN.data, Role.IMAGINATION not in blocked, Role.OBSERVATION in blocked

    settings = IptSettings(source={"ground_truth": 3.0, "self": 1.0}, reveal=0.7, bottleneck=0.4)
    drawn = [outcome(settings, epoch) for epoch in range(400)]
    for share, expected in zip(map(lambda c: sum(c) / 400, zip(*drawn, strict=True)), (0.25, 0.7, 0.4), strict=True):
        assert abs(share - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5
    assert len(set(drawn)) == 8
    assert drawn[:50] == [outcome(settings, epoch) for epoch in range(50)]
    open_ = [outcome(replace(settings, reveal=1.0), epoch) for epoch in range(50)]
    assert [(a, c) for a, _, c in open_] == [(a, c) for a, _, c in drawn[:50]]


def test_flow_weight_zero_takes_nothing_but_the_loss() -> None:
    sample, dropout = example(), GuidanceDropout(text=0.5, observation=0.5)
    trained, control = (Ipt(renderer(dropout=dropout), IptSettings(train_flow=flag)) for flag in (True, False))
    for epoch in range(12):
        ours, theirs = (
            made.renderer.finish(sample, made.segments(sample, epoch), epoch) for made in (trained, control)
        )
        assert same(ours, theirs) and [s.dropped for s in ours] == [s.dropped for s in theirs]
        assert [s.loss for s in ours if s.kind is Kind.VAE_NOISED] == [Loss.FLOW]
        assert [s.loss for s in theirs if s.kind is Kind.VAE_NOISED] == [Loss.NONE]
        assert [s.loss for s in clean(ours)] == [s.loss for s in clean(theirs)]


def test_permuted_imaginations_come_from_another_sample_of_the_task(tmp_path: Path) -> None:
    samples = [
        example(task, id=f"{task}-{n}", imagination=SampleImage(plain(n, TASK_COLOUR[task], 0), "view"))
        for n in range(5)
        for task in ("pet", "mvc")
    ]
    write_shard(tmp_path / "a.parquet", samples)
    reader = SampleReader(tmp_path / "a.parquet")
    source = Permuted(reader, seed=3)
    given = {sample.id: source(sample) for sample in samples}
    assert all(given[sample.id] != sample.imagination for sample in samples)
    for task in ("pet", "mvc"):
        assert {given[s.id].data for s in samples if s.task == task} == {
            s.imagination.data for s in samples if s.task == task
        }
    config = ImaginationConfig({"ipt": 1.0}, ipt=IptSettings(permuted=True))
    segments = make_mode("ipt", renderer(), config, reader).segments(samples[0], 0)
    pictures = {s.payload.data for s in segments if s.role is Role.IMAGINATION and s.kind is not Kind.TEXT}  # type: ignore[union-attr]
    assert len(pictures) == 1 and pictures != {samples[0].imagination.data}


TASK_COLOUR = {"pet": 100, "mvc": 200}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"condition": ("vae", "clip")}, "condition takes vae and vit"),
        ({"source": {"gt": 1.0}}, "source takes weights of ground_truth and self"),
        ({"source": {"self": 0.0}}, "source takes weights"),
        ({"reveal": 1.5}, "reveal is a probability, got 1.5"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IptSettings(**settings)  # type: ignore[arg-type]


def test_a_described_imagination_takes_a_caption() -> None:
    made = ipt(settings=IptSettings(described=True))
    with pytest.raises(BadSample, match="sample 'pet-0', field 'caption': this mode is trained on it"):
        made.segments(example(caption=" "), 0)


@pytest.mark.parametrize(("name", "field"), [("text_cot", "rationale"), ("caption", "caption")])
def test_a_mode_without_its_text_names_sample_and_field(name: str, field: str) -> None:
    with pytest.raises(BadSample, match=f"sample 'pet-0', field '{field}': this mode is trained on it"):
        mode(name).segments(example(**{field: " "}), 0)


def test_self_made_images_need_a_cache() -> None:
    with pytest.raises(ValueError, match="needs a cache"):
        ipt(settings=IptSettings(source={"self": 1.0}))
    with pytest.raises(ValueError, match="its reader is needed"):
        make_mode("ipt", renderer(), ImaginationConfig({"ipt": 1.0}, ipt=IptSettings(permuted=True)))
