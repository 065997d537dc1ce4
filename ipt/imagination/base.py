"""What an imagination mode is: the training segments of a sample, the same mediator made at inference, and all that others need
to know of it.

A mode owns both directions, so that what it is trained on and what it does cannot drift apart. A new mode is one file in
`ipt.imagination.modes`: a subclass of `Imagination` under `modes.register`. Nothing else asks for a mode by its name. These
files do not import torch, since the settings in them are checked before anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from ipt.common.registry import Registry
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.spans import Role

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ipt.samples.prompts import Profile
    from ipt.samples.store import SampleReader
    from ipt.sequence.pictures import Size
    from ipt.sequence.render import Renderer
    from ipt.sequence.segments import Segment

C = TypeVar("C", bound="Context")


class Context(Protocol):
    """A batch of growing sequences in an inference session; rows are independent of each other.

    Methods return the grown context and leave this one as it was. Segments keep their meaning: roles, blocked roles and rope
    ids follow the rules of training, and guidance branches are kept by role (without the prompt's texts, without images).
    """

    def __len__(self) -> int:
        """Rows."""
        ...

    @property
    def tasks(self) -> Sequence[str]:
        """The task of each row's sample: it decides sizes."""
        ...

    def __getitem__(self: C, rows: Sequence[int]) -> C:
        """These rows alone."""
        ...

    def updated(self: C, rows: Sequence[int], new: C) -> C:
        """With the rows of ``new`` in place of these."""
        ...

    def repeat(self: C, times: int) -> C:
        """Row i becomes the rows i * times ... (i + 1) * times - 1, which grow independently."""
        ...

    def append(self: C, segments: Sequence[Sequence[Segment]]) -> C:
        """Append to each row its segments, possibly none: texts, and images given as pictures."""
        ...

    def write_text(
        self: C, texts: Sequence[str], following: str, role: Role, blocked: frozenset[Role] = frozenset()
    ) -> C:
        """Begin a text per row with given words and leave it open, as `generate_text` with ``until`` does with words of the
        model. ``following``: what comes next in training, which decides how the end of the words is cut into tokens."""
        ...

    def generate_text(
        self: C, role: Role, seed: int, until: str = "", blocked: frozenset[Role] = frozenset()
    ) -> tuple[C, list[str]]:
        """Decode one text per row and append it, markers included, as training lays it out.

        With ``until``, a row stops as soon as its text contains it, and its text stays open: the next call continues it
        instead of starting a new one. Returns the whole text of the segment so far.
        """
        ...

    def generate_latents(self: C, rows: Sequence[int], count: int, role: Role, end: int | None = None) -> C:
        """Append ``count`` latent slots to each of these rows, which end in a text that the model wrote: each slot is fed the
        last state. With ``end``, a row stops before ``count`` once the likeliest next token is this one."""
        ...

    def generate_codes(self: C, rows: Sequence[int], size: Size, role: Role, seed: int) -> tuple[C, list[SampleImage]]:
        """Write an image of (width, height) pixels as codes after each of these rows; the images that they stand for."""
        ...

    def generate_image(self, rows: Sequence[int], size: Size, seed: int) -> list[SampleImage]:
        """Draw one image of (width, height) pixels after each of these rows, without appending it."""
        ...


@dataclass(frozen=True)
class Mediator:
    """What stands between the question and the answer of one row: the ``text`` that is said of it, tags included, and what it
    announces, if it does: an ``image``, or the ``numbers`` that the model is fed, vectors of latent slots (float32 [k, D]) or
    codes (int64 [rows, columns])."""

    text: str
    image: SampleImage | None = None
    numbers: NDArray[Any] | None = None

    def announcing(self, other: Mediator) -> Mediator:
        """These words before what the ``other`` announces; the other itself where it is words alone."""
        if other.image is None and other.numbers is None:
            return other
        return replace(other, text=self.text)


@dataclass(frozen=True)
class Imagined:
    """Contexts that hold an imagination and wait for the answer (`Context.generate_text` with `Role.ANSWER`). Of each row:

    ``texts``: what was written of the mediator, and in a row without an image possibly all that the model had to say;
    ``images``: what was drawn, none where the model chose not to. ``blocked``: roles that no row's answer may attend to.
    ``leads``: what the text of the answer begins with, where the mediator ended the one before; a row without it, whose text has
    ended, has said all it had to say.
    """

    context: Context
    texts: tuple[tuple[str, ...], ...]
    images: tuple[tuple[SampleImage, ...], ...]
    leads: tuple[str, ...]
    blocked: frozenset[Role] = frozenset()

    @classmethod
    def of(
        cls,
        context: Context,
        texts: Sequence[str],
        images: Sequence[SampleImage | None] | None = None,
        blocked: frozenset[Role] = frozenset(),
        leads: Sequence[str] | None = None,
    ) -> Imagined:
        """One text (none where it is empty) and at most one image in each row."""
        said = tuple((text,) if text else () for text in texts)
        shown = ((),) * len(said) if images is None else tuple(() if i is None else (i,) for i in images)
        return cls(context, said, shown, ("",) * len(said) if leads is None else tuple(leads), blocked)


@dataclass(frozen=True)
class Codebook:
    """Codes by which the vocabulary grows: those of the codec in ``folder``, else ``count`` of ``stride`` pixels per side
    (default: a latent token's) that are fitted to the pictures of the dataset."""

    folder: Path | None
    count: int
    stride: int | None


@dataclass(frozen=True)
class ImaginationSettings:
    """The settings of a mode that has none; those of others are subclasses of it, and keys of ``imagination.MODE``."""

    @property
    def at_inference(self) -> ImaginationSettings:
        """The same without those of where training takes its mediators from."""
        return self

    @property
    def answers_unseen(self) -> bool:
        """Whether the model is trained to answer now and then from a mediator that it cannot see (`Imagination.unseen`)."""
        return False

    @property
    def free_rounds(self) -> tuple[int, int]:
        """How often the model fills latent slots itself in training, and how many of these rounds have gradients
        (`ipt.model.unified.UnifiedModel.forward`)."""
        return 0, 0

    @property
    def slot_input(self) -> str | None:
        """What is fed to latent slots for a vector (`ipt.model.slots.SlotInput`); None in a mode without them."""
        return None

    @property
    def continues(self) -> str | None:
        """Why training goes on from a model that was trained in this mode before; None where it need not."""
        return None

    @property
    def frozen(self) -> tuple[str, ...]:
        """Parts of the model that are not trained, since targets come from them (`ipt.model.parts.FREEZABLE`)."""
        return ()

    @property
    def codebook(self) -> Codebook | None:
        """The codes that the mode writes pictures in; None where it writes none."""
        return None

    def picture(self, sample: SpatialSample) -> SampleImage:
        """What the mode shows as the imagination of a sample."""
        return sample.imagination

    @property
    def true_only(self) -> bool:
        """Whether `picture` knows nothing but the samples' true pictures, so that a counterfactual one cannot be shown."""
        return False

    @property
    def encodes(self) -> bool:
        """Whether the mode shows pictures through the codec, also where it draws none."""
        return False


class Imagination:
    """An imagination mode.

    ``prompts``: the system prompt that asks for it, by profile. ``mediates``: something stands between question and answer.
    ``answers``: an answer ends it.
    ``draws``: images are made by flow matching, which takes a codec. ``words``: texts that it alone writes. A mode with such has
    them, and its prompt, in the vocabulary of a tokenizer that is made for a run only where the run trains it: others stay as
    they were.
    ``kind``: what its mediators are, which decides what can be done to them (`ipt.faithfulness`): ``picture``, ``text``,
    ``latent``, ``code``, or nothing.
    ``end``: what ends a mediator of words that the answer's text begins with; nothing where there is no mediator. Rows of such a
    mode come and go by themselves (`ipt.inference.continuous`), which must be what `imagine` does with them together. None:
    mediators are made in another way.
    """

    name: ClassVar[str]
    end: ClassVar[str | None] = None
    prompts: ClassVar[Mapping[str, str]] = {}
    mediates: ClassVar[bool] = True
    answers: ClassVar[bool] = True
    draws: ClassVar[bool] = False
    words: ClassVar[Sequence[str]] = ()
    kind: ClassVar[str] = ""
    Settings: ClassVar[type[ImaginationSettings]] = ImaginationSettings

    def __init__(self, renderer: Renderer, settings: Any = None) -> None:
        self.renderer, self.settings = renderer, self.Settings() if settings is None else settings

    @classmethod
    def make(cls, renderer: Renderer, settings: Any, reader: SampleReader | None = None) -> Imagination:
        """The mode for training on the samples of ``reader``, or for inference without one."""
        return cls(renderer, settings)

    @classmethod
    def turns(cls, sample: SpatialSample, profile: Profile, rng: np.random.Generator) -> list[str | SampleImage]:
        """What the model is to write and to draw after the prompt, in order; ``rng`` draws where there is a choice.

        Raises ``BadSample`` where the sample lacks what the mode is trained on.
        """
        raise NotImplementedError

    def segments(self, sample: SpatialSample, epoch: int) -> list[Segment]:
        """The training sample: prompt, mediator and answer; here for turns that are all texts. A pure function of its
        arguments."""
        rng = self.renderer.config.stream("thought", sample, epoch)
        texts = [str(turn) for turn in self.turns(sample, self.renderer.profile, rng)]
        return [*self.prompt(sample), *(self.renderer.text(text, Role.ANSWER, trained=True) for text in texts)]

    def prompt(self, sample: SpatialSample) -> list[Segment]:
        """What inference puts into a context before `imagine`."""
        return self.renderer.prompt(sample, self.name)

    def imagine(self, context: Context, n: int, seed: int) -> Imagined:
        """Make ``n`` mediators after each row of a context that holds this mode's prompts."""
        raise NotImplementedError

    def given(self, context: Context, samples: Sequence[SpatialSample], sources: Sequence[SpatialSample]) -> Imagined:
        """Mediators that are not made but given, one per row: what training shows as that of ``sources[row]``, announced as
        that of ``samples[row]``."""
        return self.placed(context, [self.true_mediator(source) for source in sources])

    def mediator_of(
        self, texts: Sequence[str], images: Sequence[SampleImage], numbers: Sequence[NDArray[Any]] = ()
    ) -> Mediator | None:
        """The mediator in a row's ``texts`` and ``images`` (`Imagined`), and in the ``numbers`` of its slots or codes; None where
        the model made none, or did not finish it."""
        raise NotImplementedError

    def true_mediator(self, sample: SpatialSample) -> Mediator:
        """What training shows as the mediator of the sample, by its picture where that is still to be turned into numbers.
        ``BadSample`` where it has none."""
        raise NotImplementedError

    def looked_at(self, task: str, mediator: Mediator) -> list[Segment]:
        """What the model sees of a mediator of numbers, of the words that announce it, too; a picture is still to be turned into
        numbers."""
        raise NotImplementedError

    def placed(self, context: Context, mediators: Sequence[Mediator]) -> Imagined:
        """Mediators of any origin, one per row of a context that holds this mode's prompts, as the model looks at its own."""
        raise NotImplementedError

    def announce(self, context: C, texts: Sequence[str]) -> C:
        """Rows of this mode's prompts with ``texts`` given as what comes before the picture that is to be drawn."""
        raise NotImplementedError

    def unseen(self, context: Context, samples: Sequence[SpatialSample]) -> Imagined:
        """What stands before the answer where no mediator is asked for, in models that were trained with
        `ImaginationSettings.answers_unseen`: everything as then, and nothing to see."""
        raise NotImplementedError

    def announces(self, text: str) -> bool:
        """Whether a text ends in the announcement of one more mediator, which `announced` makes."""
        return False

    def announced(self, rows: Context, texts: Sequence[str], seed: int) -> Imagined:
        """Make the mediator that each row's last text, ``texts[row]``, announces; none where it does not."""
        raise NotImplementedError


modes: Registry[type[Imagination]] = Registry("imagination mode")
