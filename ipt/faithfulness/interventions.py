"""Interventions: a mediator in, a mediator out. What can be done depends on its kind, under which an intervention is
registered.

An arm is written ``[gt.]name[:argument]``: ``noise`` changes what the model made, ``gt.noise`` the truth. The families say what
an arm is for: ``control`` changes nothing that matters, ``destroy`` leaves no content, ``swap`` brings that of another
question, ``direct`` content that asks for another answer, ``dose`` a little less of it, ``truth`` more. A change that has no
meaning for a question (there is no such question, no such render) gives None, and the question is left out of that arm.

Sources: CapImagine (arXiv 2602.22766) for constant, noised and permuted mediators, Ablate-to-Validate (2605.21642) for those
matched in distribution, the IPT paper (2606.03988) for sizes and the truth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from PIL import Image
from scipy import ndimage

from ipt.common.errors import UserError
from ipt.common.images import RGB, decode_image, encode_image
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.seeding import generator
from ipt.imagination.base import Mediator
from ipt.inference.prediction import Prediction
from ipt.samples.prompts import escape
from ipt.samples.sample import SampleImage, SpatialSample

FAMILIES = ("control", "destroy", "swap", "direct", "dose", "truth")
#: Content is gone in these, best matched first: what presence and content are told apart by, by kind of mediator.
DESTROYED = {"picture": "noise", "text": "shuffle"}
GREY = 128
#: Words that an answer turns into when left and right, or near and far, change places.
OPPOSITES = (("left", "right"), ("closer", "further"), ("closer", "farther"), ("nearer", "further"), ("more", "fewer"))
MIRRORED = OPPOSITES[:1]
WORD = re.compile(r"[A-Za-z]+|\d+")
TAGGED = re.compile(r"(<\w+>)(.*)(</\w+>)", re.DOTALL)


class Others(Protocol):
    """What interventions may take from other questions, and from the model."""

    def partner(self, name: str, scene: bool, answer: bool) -> str | None:
        """The id of another question of the same ``scene`` or of another one, with the same right ``answer`` or another one
        that is among the options; None where there is none."""
        ...

    def answer(self, name: str) -> str:
        """The right answer of a question, in words."""
        ...

    def made(self, name: str, seed: int) -> Mediator | None:
        """What the model made for the question ``name`` in its imagination number ``seed``."""
        ...

    def true(self, name: str) -> Mediator: ...

    def means(self, seed: int | None) -> Mapping[str, RGB]:
        """By id of a question, the mean picture of all questions of other scenes: what the model made with ``seed``, or (None)
        the truth."""
        ...

    def sized(self, image: SampleImage, task: str) -> SampleImage:
        """The picture at the size at which the model imagines."""
        ...

    def round_trip(self, image: SampleImage) -> SampleImage:
        """The picture through the model's codec and back. ``UserError`` for a model without one."""
        ...


@dataclass(frozen=True)
class Case:
    """A mediator that is to be changed: of ``sample``, made with ``seed``, or its truth (``is_true``). ``rng``: its own stream
    in this arm."""

    sample: SpatialSample
    mediator: Mediator
    seed: int
    is_true: bool
    others: Others
    rng: np.random.Generator

    @cached_property
    def pixels(self) -> RGB:
        assert self.mediator.image is not None
        return decode_image(self.mediator.image.data)

    def drawn(self, pixels: RGB) -> Mediator:
        """The same words with another picture."""
        return replace(self.mediator, image=SampleImage(encode_image(pixels), "imagination"))

    @property
    def parts(self) -> tuple[str, str, str]:
        """Opening tag, words, closing tag of a text."""
        found = TAGGED.fullmatch(self.mediator.text)
        if found is None:
            raise UserError(
                f"sample '{self.sample.id}': the mediator is no text between tags: {self.mediator.text!r:.80}"
            )
        return found[1], found[2], found[3]

    def said(self, words: str) -> Mediator:
        before, _, after = self.parts
        return Mediator(f"{before}{escape(words)}{after}")


Apply = Callable[..., Mediator | None]
Target = Callable[..., int | None]


@dataclass(frozen=True)
class Intervention:
    """``apply`` (case, arguments) gives the changed mediator; ``target`` (prediction of the question, others, arguments) the
    option that it asks for, where it asks for one. ``arguments``: those of the arms that are run by default."""

    family: str
    apply: Apply
    arguments: tuple[str, ...] = ("",)
    target: Target | None = None


#: By kind of mediator (`ipt.imagination.base.Imagination.kind`) and name. Another kind files its own here.
INTERVENTIONS: dict[str, dict[str, Intervention]] = {}


def register(
    kind: str, name: str, family: str, *arguments: str, target: Target | None = None
) -> Callable[[Apply], Apply]:
    """File a function as the intervention ``name`` on mediators of ``kind``."""

    def add(apply: Apply) -> Apply:
        INTERVENTIONS.setdefault(kind, {})[name] = Intervention(family, apply, arguments or ("",), target)
        return apply

    return add


@dataclass(frozen=True)
class Arm:
    """An arm by its parts; ``str`` writes it."""

    name: str
    arguments: tuple[str, ...] = ()
    is_true: bool = False

    def __str__(self) -> str:
        if self.is_true and self.name == "identity":
            return "gt"
        return ":".join([("gt." if self.is_true else "") + self.name, *self.arguments])


def parse_arm(text: str, kind: str) -> Arm:
    """``gt``, ``noise``, ``gt.blur:2``, ``swap:other_scene:same_answer``. `UnknownName` lists the interventions of ``kind``."""
    if kind not in INTERVENTIONS:
        raise UnknownName(unknown_name("kind of mediator", kind, INTERVENTIONS))
    name, *arguments = ("gt.identity" if text == "gt" else text).split(":")
    is_true, name = name.startswith("gt."), name.removeprefix("gt.")
    if name not in INTERVENTIONS[kind]:
        raise UnknownName(unknown_name(f"intervention on a {kind}", name, [*INTERVENTIONS[kind], "gt"]))
    return Arm(name, tuple(arguments), is_true)


def changed(arm: Arm, kind: str, case: Case) -> Mediator | None:
    """The mediator of an arm; None where it has no meaning for this question."""
    try:
        return INTERVENTIONS[kind][arm.name].apply(case, *arm.arguments)
    except (TypeError, KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"arm {arm}: its arguments are not what {arm.name} takes ({error})") from error


def target_of(arm: Arm, kind: str, prediction: Prediction, others: Others) -> int | None:
    """The option that an arm asks for in place of the right one; None where it asks for none."""
    find = INTERVENTIONS[kind][arm.name].target
    found = None if find is None else find(prediction, others, *arm.arguments)
    return None if found == prediction.expected else found


def opposite(prediction: Prediction, others: Others, pairs: Sequence[tuple[str, str]] = MIRRORED) -> int | None:
    """The option with the opposite words of the right one."""
    right, options = prediction.choices[prediction.expected], [choice.lower() for choice in prediction.choices]
    for pair in pairs:
        if (turned := exchanged(right, (pair,)).lower()) != right.lower() and turned in options:
            return options.index(turned)
    return None


def exchanged(words: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Every word of a pair turned into the other one, its capital kept."""
    turned: dict[str, str] = {}
    for first, second in pairs:
        turned.setdefault(first, second)
        turned.setdefault(second, first)

    def turn(match: re.Match[str]) -> str:
        other = turned.get(match[0].lower(), match[0])
        return other.capitalize() if match[0][:1].isupper() else other

    return WORD.sub(turn, words)


def strata(scene: str, answer: str) -> tuple[bool, bool]:
    valid = {f"{which}_{what}": which == "same" for which in ("same", "other") for what in ("scene", "answer")}
    if scene not in valid or answer not in valid:
        raise UnknownName(unknown_name("stratum of swap", f"{scene}:{answer}", valid))
    return valid[scene], valid[answer]


STRATA = tuple(
    f"{scene}:{answer}" for scene in ("same_scene", "other_scene") for answer in ("same_answer", "other_answer")
)


def others_answer(prediction: Prediction, others: Others, scene: str, answer: str) -> int | None:
    """Where the answer is to be another one, the partner's."""
    name = others.partner(prediction.sample_id, *strata(scene, answer))
    if name is None or answer != "other_answer":
        return None
    return prediction.choices.index(others.answer(name))


@register("picture", "swap", "swap", *STRATA, target=others_answer)
@register("text", "swap", "swap", *STRATA, target=others_answer)
def swap(case: Case, scene: str, answer: str) -> Mediator | None:
    """The mediator of another question, under the words that announce this one's."""
    name = case.others.partner(case.sample.id, *strata(scene, answer))
    if name is None:
        return None
    other = case.others.true(name) if case.is_true else case.others.made(name, case.seed)
    if other is None:
        return None
    return other if case.mediator.image is None else replace(case.mediator, image=other.image)


@register("picture", "other_seed", "control")
@register("text", "other_seed", "control")
def other_seed(case: Case) -> Mediator | None:
    """What the model made for the same question in its next imagination: the noise floor of every effect."""
    return None if case.is_true else case.others.made(case.sample.id, case.seed + 1)


# ------------------------------------------------------------------------------------------------ pictures


@register("picture", "identity", "control")
def same_picture(case: Case) -> Mediator:
    """Decoded and encoded again: must change nothing."""
    return case.drawn(case.pixels)


@register("picture", "empty", "destroy")
def no_picture(case: Case) -> Mediator:
    """Announced and ended, and nothing between (arXiv 2606.01287)."""
    return replace(case.mediator, image=None)


@register("picture", "zeros", "destroy")
def black(case: Case) -> Mediator:
    return case.drawn(np.zeros_like(case.pixels))


@register("picture", "grey", "destroy")
def grey(case: Case) -> Mediator:
    return case.drawn(np.full_like(case.pixels, GREY))


@register("picture", "mean", "destroy")
def mean(case: Case) -> Mediator:
    """The mean picture of all questions of other scenes."""
    return case.drawn(case.others.means(None if case.is_true else case.seed)[case.sample.id])


@register("picture", "noise", "destroy")
def noise(case: Case) -> Mediator:
    """Independent normal pixels with the mean and deviation of each channel."""
    flat = case.pixels.reshape(-1, 3).astype(np.float64)
    drawn = case.rng.normal(flat.mean(0), flat.std(0), case.pixels.shape)
    return case.drawn(drawn.clip(0, 255).astype(np.uint8))


@register("picture", "phase", "destroy")
def scrambled_phase(case: Case) -> Mediator:
    """The power spectrum of each channel with the phases of noise: statistics of a picture and no things in it."""
    pixels = case.pixels.astype(np.float64)
    turn = np.angle(np.fft.fft2(case.rng.normal(size=pixels.shape[:2])))[:, :, None]
    spectrum = np.fft.fft2(pixels, axes=(0, 1)) * np.exp(1j * turn)
    spectrum[0, 0] = pixels.sum((0, 1))
    return case.drawn(np.fft.ifft2(spectrum, axes=(0, 1)).real.clip(0, 255).astype(np.uint8))


@register("picture", "shuffle_patches", "destroy")
def shuffled(case: Case, grid: str = "4") -> Mediator:
    """The same pixels without layout: ``grid`` x ``grid`` tiles in random order."""
    tiles, cut = tiled(case.pixels, int(grid))
    return case.drawn(untiled(tiles[case.rng.permutation(len(tiles))], int(grid), cut))


def tiled(pixels: RGB, grid: int) -> tuple[RGB, RGB]:
    """Equal tiles [grid * grid, h, w, 3], and the picture, whose rest at the right and lower edge belongs to none."""
    height, width = pixels.shape[0] // grid, pixels.shape[1] // grid
    if not height * width:
        raise UserError(f"a picture of {pixels.shape[1]} x {pixels.shape[0]} cannot be cut into {grid} x {grid} tiles")
    inner = pixels[: height * grid, : width * grid].reshape(grid, height, grid, width, 3)
    return inner.swapaxes(1, 2).reshape(grid * grid, height, width, 3), pixels


def untiled(tiles: RGB, grid: int, around: RGB) -> RGB:
    """Inverse of `tiled`."""
    height, width = tiles.shape[1:3]
    made = around.copy()
    rows = tiles.reshape(grid, grid, height, width, 3).swapaxes(1, 2)
    made[: height * grid, : width * grid] = rows.reshape(height * grid, width * grid, 3)
    return made


@register("picture", "mirror", "direct", target=opposite)
def mirror(case: Case) -> Mediator:
    """Left and right change places; so does an answer about them."""
    return case.drawn(case.pixels[:, ::-1])


def edited_answer(prediction: Prediction, others: Others, role: str) -> int | None:
    """What a render asks for: mirrored, the other side; with an object more or less, where numbers are asked for, that
    number."""
    if role == "mirrored":
        return opposite(prediction, others)
    step, right = {"add": 1, "remove": -1}.get(role, 0), prediction.choices[prediction.expected]
    if not step or not right.isdigit() or str(int(right) + step) not in prediction.choices:
        return None
    return prediction.choices.index(str(int(right) + step))


@register("picture", "render", "direct", target=edited_answer)
def render(case: Case, role: str) -> Mediator | None:
    """A counterfactual of the dataset: the true view with another heading (``yaw+30``), from another place (``distance+1``),
    ``mirrored``, or with the target removed, added, moved."""
    found = next((image for image in case.sample.counterfactuals if image.role == role), None)
    return None if found is None else replace(case.mediator, image=case.others.sized(found, case.sample.task))


@register("picture", "blur", "dose", "1", "2", "4", "8")
def blurred(case: Case, sigma: str) -> Mediator:
    """Gaussian blur of ``sigma`` pixels."""
    smooth = ndimage.gaussian_filter(case.pixels.astype(np.float64), (float(sigma), float(sigma), 0))
    return case.drawn(smooth.round().clip(0, 255).astype(np.uint8))


@register("picture", "size", "dose", "2", "4", "8", "16")
def smaller(case: Case, times: str) -> Mediator:
    """Reduced ``times`` per side and enlarged again."""
    image = Image.fromarray(case.pixels)
    small = image.resize([max(1, side // int(times)) for side in image.size], Image.Resampling.BOX)
    return case.drawn(np.asarray(small.resize(image.size, Image.Resampling.BICUBIC)))


@register("picture", "drop", "dose", "0.25", "0.5", "0.75", "0.9")
def dropped(case: Case, share: str, grid: str = "8") -> Mediator:
    """A ``share`` of ``grid`` x ``grid`` tiles grey: fewer tokens hold content, none is missing."""
    tiles, cut = tiled(case.pixels, int(grid))
    lost = case.rng.permutation(len(tiles))[: round(float(share) * len(tiles))]
    tiles = tiles.copy()
    tiles[lost] = GREY
    return case.drawn(untiled(tiles, int(grid), cut))


@register("picture", "fade", "dose", "0.25", "0.5", "0.75")
def faded(case: Case, share: str) -> Mediator:
    """Mixed with pixel noise of its own statistics, at equal variance: what is left of a picture early on the flow's path."""
    keep, drowned = 1 - float(share), decode_image(noise(case).image.data)  # type: ignore[union-attr]
    centre = case.pixels.reshape(-1, 3).mean(0)
    mixed = centre + np.sqrt(keep) * (case.pixels - centre) + np.sqrt(1 - keep) * (drowned - centre)
    return case.drawn(mixed.round().clip(0, 255).astype(np.uint8))


@register("picture", "round_trip", "truth")
def through_codec(case: Case) -> Mediator:
    """What the codec keeps: of the truth, the most that a picture of this model can show."""
    assert case.mediator.image is not None
    return replace(case.mediator, image=case.others.round_trip(case.mediator.image))


# --------------------------------------------------------------------------------------------------- texts


@register("text", "identity", "control")
def same_text(case: Case) -> Mediator:
    return case.mediator


@register("text", "empty", "destroy")
def no_text(case: Case) -> Mediator:
    return case.said("")


@register("text", "shuffle", "destroy")
def shuffled_words(case: Case) -> Mediator:
    """The same words in random order."""
    words = case.parts[1].split()
    return case.said(" ".join(words[place] for place in case.rng.permutation(len(words))))


@register("text", "repeat", "destroy")
def repeated_word(case: Case) -> Mediator:
    """The first word as often as there are words (arXiv 2605.21642)."""
    words = case.parts[1].split()
    return case.said(" ".join(words[:1] * len(words)))


@register("text", "drop", "dose", "0.25", "0.5", "0.75", "0.9")
def dropped_words(case: Case, share: str) -> Mediator:
    words = case.parts[1].split()
    kept = sorted(case.rng.permutation(len(words))[round(float(share) * len(words)) :])
    return case.said(" ".join(words[place] for place in kept))


def all_opposites(prediction: Prediction, others: Others) -> int | None:
    return opposite(prediction, others, OPPOSITES)


@register("text", "mirror", "direct", target=all_opposites)
def contradicted(case: Case) -> Mediator | None:
    """Left says right, closer says further, and the other way round; None where it says neither."""
    words = case.parts[1]
    turned = exchanged(words, OPPOSITES)
    return None if turned == words else case.said(turned)


def next_number(prediction: Prediction, others: Others, step: str) -> int | None:
    right = prediction.choices[prediction.expected]
    wanted = str(int(right) + int(step)) if right.isdigit() else ""
    return prediction.choices.index(wanted) if wanted in prediction.choices else None


@register("text", "count", "direct", "+1", "-1", target=next_number)
def other_number(case: Case, step: str) -> Mediator | None:
    """The fact ``count`` of the sample replaced by its neighbour wherever the text says it in digits; None where it does
    not."""
    words, count = case.parts[1], case.sample.facts.get("count")
    turned = re.sub(rf"\b{count}\b", str(int(count) + int(step)), words) if isinstance(count, int) else words
    return None if turned == words else case.said(turned)


def default_arms(kind: str, preset: str, roles: Sequence[str]) -> list[str]:
    """The arms of a preset; ``roles``: the counterfactuals that the dataset has."""
    if kind not in INTERVENTIONS:
        raise UnknownName(unknown_name("kind of mediator", kind, INTERVENTIONS))
    table = INTERVENTIONS[kind]
    if (
        preset == "capimagine"
    ):  # constant, noise, zero, other item's, directed: what its table does to latents and texts
        wanted = ("identity", "mean", "noise", "zeros", "empty", "shuffle", "repeat", "mirror", "count")
        names = [name for name in wanted if name in table]
        return [*written(names, table), "swap:other_scene:other_answer", "gt"]
    families = ("control", "destroy", "direct") if preset == "quick" else FAMILIES
    names = [name for name, entry in table.items() if entry.family in families and name not in ("render", "round_trip")]
    found = [*written(names, table), "gt"]
    if preset == "full" and kind == "picture":
        doses = [name for name, entry in table.items() if entry.family == "dose"]
        found += ["gt.round_trip", "gt.mirror", "gt.noise", "gt.swap:other_scene:other_answer"]
        found += [f"gt.{arm}" for arm in written(doses, table) if arm.startswith(("blur", "drop"))]
    if kind == "picture":
        found += [f"render:{role}" for role in roles]
    return found


def written(names: Sequence[str], table: Mapping[str, Intervention]) -> list[str]:
    return [f"{name}:{argument}" if argument else name for name in names for argument in table[name].arguments]


def stream(arm: Arm, seed: int, name: str) -> np.random.Generator:
    """The random stream of a question in an arm: the same whether the truth or the model's own is changed."""
    return generator(seed, "intervention", arm.name, *arm.arguments, name)
