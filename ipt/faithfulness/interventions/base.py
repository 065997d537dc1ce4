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
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ipt.common.errors import UserError
from ipt.common.images import RGB, decode_image, encode_image
from ipt.common.registry import UnknownName, unknown_name
from ipt.common.seeding import generator
from ipt.common.statistics import Floats
from ipt.imagination.base import Mediator
from ipt.inference.prediction import Prediction
from ipt.samples.prompts import escape
from ipt.samples.sample import SampleImage, SpatialSample

FAMILIES = ("control", "destroy", "swap", "direct", "dose", "truth")
#: Content is gone in these, best matched first: what presence and content are told apart by, by kind of mediator.
DESTROYED = {"picture": "noise", "text": "shuffle", "latent": "noise", "code": "noise"}
ALL = tuple(DESTROYED)
NUMBERS = ("latent", "code")
SWAPPED = "swap:other_scene:other_answer"
CAPIMAGINE = (
    "identity",
    "mean",
    "constant",
    "noise",
    "zeros",
    "jitter",
    "empty",
    "shuffle",
    "permute",
    "repeat",
    "mirror",
    "count",
)
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

    def means(self, seed: int | None, of: Callable[[Mediator], Floats]) -> Mapping[str, Floats]:
        """By id of a question, the mean of ``of`` over all questions of other scenes: of what the model made with ``seed``, or
        (None) of the truth. Where there is a single scene, over all other questions."""
        ...

    def showing(self, sample: SpatialSample, image: SampleImage) -> Mediator:
        """What would be the truth of the sample if its unseen view were ``image``."""
        ...

    @property
    def codes(self) -> int:
        """How many codes the model can write pictures in."""
        ...

    def reply(self, system: str, text: str) -> str:
        """What the model that rewrites texts says; the same again for the same words."""
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

    @property
    def numbers(self) -> NDArray[Any]:
        assert self.mediator.numbers is not None
        return self.mediator.numbers

    def holding(self, numbers: NDArray[Any]) -> Mediator:
        """The same words before other latents or codes."""
        return Mediator(self.mediator.text, numbers=np.ascontiguousarray(numbers, self.numbers.dtype))

    def elsewhere(self, of: Callable[[Mediator], Floats]) -> Floats:
        """The mean of ``of`` in questions of other scenes."""
        return self.others.means(None if self.is_true else self.seed, of)[self.sample.id]

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
    kinds: str | Sequence[str], name: str, family: str, *arguments: str, target: Target | None = None
) -> Callable[[Apply], Apply]:
    """File a function as the intervention ``name`` on mediators of a kind, or of several."""

    def add(apply: Apply) -> Apply:
        for kind in (kinds,) if isinstance(kinds, str) else kinds:
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


def table_of(kind: str) -> dict[str, Intervention]:
    if kind not in INTERVENTIONS:
        raise UnknownName(unknown_name("kind of mediator", kind, INTERVENTIONS))
    return INTERVENTIONS[kind]


def parse_arm(text: str, kind: str) -> Arm:
    """``gt``, ``noise``, ``gt.blur:2``, ``swap:other_scene:same_answer``. `UnknownName` lists the interventions of ``kind``."""
    table = table_of(kind)
    name, *arguments = ("gt.identity" if text == "gt" else text).split(":")
    is_true, name = name.startswith("gt."), name.removeprefix("gt.")
    if name not in table:
        raise UnknownName(unknown_name(f"intervention on a {kind}", name, [*table, "gt"]))
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


@register(("text", *NUMBERS), "identity", "control")
def as_it_was(case: Case) -> Mediator:
    """What is read from the disk again: must change nothing."""
    return case.mediator


@register(ALL, "swap", "swap", *STRATA, target=others_answer)
def swap(case: Case, scene: str, answer: str) -> Mediator | None:
    """The mediator of another question, under the words that announce this one's."""
    name = case.others.partner(case.sample.id, *strata(scene, answer))
    if name is None:
        return None
    other = case.others.true(name) if case.is_true else case.others.made(name, case.seed)
    return None if other is None else case.mediator.announcing(other)


@register(ALL, "other_seed", "control")
def other_seed(case: Case) -> Mediator | None:
    """What the model made for the same question in its next imagination: the noise floor of every effect."""
    return None if case.is_true else case.others.made(case.sample.id, case.seed + 1)


@register(("picture", *NUMBERS), "empty", "destroy")
def empty(case: Case) -> Mediator:
    """Announced and ended, and nothing between (arXiv 2606.01287)."""
    return Mediator(case.mediator.text)


def edited_answer(prediction: Prediction, others: Others, role: str) -> int | None:
    """What a render asks for: mirrored, the other side; with an object more or less, where numbers are asked for, that
    number."""
    if role == "mirrored":
        return opposite(prediction, others)
    step, right = {"add": 1, "remove": -1}.get(role, 0), prediction.choices[prediction.expected]
    if not step or not right.isdigit() or str(int(right) + step) not in prediction.choices:
        return None
    return prediction.choices.index(str(int(right) + step))


@register(("picture", *NUMBERS), "render", "direct", target=edited_answer)
def render(case: Case, role: str) -> Mediator | None:
    """A counterfactual of the dataset: the true view with another heading (``yaw+30``), from another place (``distance+1``),
    ``mirrored``, or with the target removed, added, moved."""
    found = next((image for image in case.sample.counterfactuals if image.role == role), None)
    return None if found is None else case.mediator.announcing(case.others.showing(case.sample, found))


def default_arms(kind: str, preset: str, roles: Sequence[str]) -> list[str]:
    """The arms of a preset; ``roles``: the counterfactuals that the dataset has."""
    table = table_of(kind)
    of_truth = [name for name, entry in table.items() if entry.family == "truth"]
    if preset == "capimagine":  # constants, noise, other questions', directed: what it does to latents and to texts
        own = written([name for name in CAPIMAGINE if name in table and name not in of_truth], table)
        return [*own, SWAPPED, "gt", *(f"gt.{name}" for name in of_truth if name in CAPIMAGINE)]
    families = ("control", "destroy", "direct") if preset == "quick" else FAMILIES
    apart = (*of_truth, "render", "rewrite")
    names = [name for name, entry in table.items() if entry.family in families and name not in apart]
    found = [*written(names, table), "gt"]
    if preset == "full" and kind != "text":
        doses = written([name for name in ("blur", "drop") if name in table], table)
        found += [f"gt.{name}" for name in dict.fromkeys((*of_truth, "mirror", DESTROYED[kind], SWAPPED, *doses))]
    return [*found, *(f"render:{role}" for role in roles if "render" in table)]


def written(names: Sequence[str], table: Mapping[str, Intervention]) -> list[str]:
    return [f"{name}:{argument}" if argument else name for name in names for argument in table[name].arguments]


def stream(arm: Arm, seed: int, name: str) -> np.random.Generator:
    """The random stream of a question in an arm: the same whether the truth or the model's own is changed."""
    return generator(seed, "intervention", arm.name, *arm.arguments, name)
