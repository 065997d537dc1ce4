"""What happens on a click, without the page: where a visitor stands, what was drawn, what was answered."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ipt.app.player import EDITED, WAYS, Drawn, Imagined, Player
from ipt.app.simulator import Place, Scenario, Simulator
from ipt.common.errors import UserError
from ipt.common.images import BadImage, decode_image, image_size
from ipt.common.registry import unknown_name
from ipt.inference.own import own_question
from ipt.inference.prediction import Prediction
from ipt.samples.sample import SpatialSample

FRAMES = 4  # views of one question about a map
MAX_PICTURES, MAX_BYTES, MAX_PIXELS = 6, 8 * 2**20, 16_000_000  # of a visitor's own
MAX_TEXT = 500
INVITATIONS: Mapping[str, str] = {
    "pet": "Click on the floor where you want to go.",
    "pt": "Click on the map where the walk begins, and then where it ends.",
    "mvc": "Click on the map where four pictures are taken, turning around; or click four places, each looking towards the next.",
}
READY = "Now let the model imagine what you cannot see."
#: Where another scene's picture is looked for.
GRID: Sequence[Place] = tuple(itertools.product((0.5, 0.35, 0.65, 0.2, 0.8), (0.8, 0.65, 0.5, 0.35, 0.25)))


@dataclass(frozen=True)
class Play:
    """A visitor's place in one task. ``picture``: what can be clicked in; ``message``: what to do, or why that cannot be done;
    ``answers`` by the way they were come by, for question number ``question``."""

    task: str
    room: str
    scene: int
    side: str = "left"
    clicks: tuple[Place, ...] = ()
    picture: bytes = b""
    message: str = ""
    scenario: Scenario | None = None
    question: int = 0
    seed: int = 0
    imagined: Imagined | None = None
    answers: Mapping[str, Prediction] = field(default_factory=dict)

    @property
    def sample(self) -> SpatialSample:
        """What is asked: the chosen question, or for the picture alone where there is none."""
        if self.scenario is None:
            raise UserError(INVITATIONS.get(self.task, "ask something about your pictures first"))
        questions = self.scenario.questions
        return questions[min(self.question, len(questions) - 1)] if questions else self.scenario.sample


class Game:
    """A model, and simulators by the kind of their rooms."""

    def __init__(self, player: Player, simulators: Mapping[str, Simulator]) -> None:
        self.player, self.simulators = player, simulators
        self._others: dict[tuple[str, str, int], SpatialSample | None] = {}

    def enter(self, task: str, room: str, scene: int, side: str = "left") -> Play:
        """A visitor who comes into a scene."""
        view, above = self._simulator(room).look(scene)
        picture = view if task == "pet" else above
        return Play(task, room, scene, side, picture=picture, message=INVITATIONS[task])

    def click(self, play: Play, at: Place) -> Play:
        """After a click at shares ``at`` of the picture. A step begins anew with each, a walk goes on, places are collected."""
        finished = play.task == "mvc" and len(play.clicks) >= FRAMES
        before = () if play.task == "pet" or finished else play.clicks
        moved = self._moved(replace(play, clicks=(*before, at)))
        # what was refused is not kept, so that the next click can do better
        return moved if moved.scenario or moved.message.startswith("Click") else replace(moved, clicks=before)

    def turn(self, play: Play, side: str) -> Play:
        """The same clicks, looking to the other ``side``."""
        turned = replace(play, side=side)
        return self._moved(turned) if play.clicks else turned

    def clear(self, play: Play) -> Play:
        """The scene as it was entered."""
        return self.enter(play.task, play.room, play.scene, play.side)

    def _moved(self, play: Play) -> Play:
        """With what comes of the clicks."""
        fresh = replace(play, scenario=None, imagined=None, answers={}, question=0)
        missing = missing_clicks(play.task, len(play.clicks))
        try:
            scenario = None if missing else self._scenario(play)
        except UserError as error:
            return replace(fresh, message=f"{str(error)[0].upper()}{str(error)[1:]}.")
        if scenario is None:
            return replace(fresh, message=missing)
        message = READY if play.task != "mvc" or len(play.clicks) > 1 else f"{READY} (Or click three more places.)"
        return replace(fresh, scenario=scenario, message=message)

    def _scenario(self, play: Play) -> Scenario:
        simulator, asked = self._simulator(play.room), self.player.was_asked
        if play.task == "pet":
            return simulator.step(play.scene, play.clicks[-1], play.side)
        if play.task == "pt":
            return simulator.walk(play.scene, play.clicks, play.side, asked)
        return simulator.around(play.scene, play.clicks, asked)

    def choose(self, play: Play, question: int) -> Play:
        """Another question about the same pictures."""
        return replace(play, question=question, answers={}, imagined=None)

    def imagine(self, play: Play, seed: int) -> Iterator[Drawn | Play]:
        """The picture as it is drawn with ``seed``, and at last the visitor with it and with all answers."""
        sample = play.sample
        made: Imagined | None = None
        for shown in self.player.imagine(sample, seed):
            if isinstance(shown, Drawn):
                yield shown
            else:
                made = shown
        assert made is not None
        answers = self.player.answers(sample, self._other(play), seed) if sample.choices else {}
        if made.prediction is not None:
            answers["imagination"] = made.prediction
        ordered = {way: answers[way] for way in WAYS if way in answers}
        yield replace(play, imagined=made, answers=ordered, seed=seed)

    def _other(self, play: Play) -> SpatialSample | None:
        """A sample of the same task from another scene; None where none is found, and for pictures of one's own."""
        if not self.player.answers_from_pictures or play.room not in self.simulators:
            return None
        key = play.task, play.room, play.scene + 1
        if key not in self._others:
            self._others[key] = next(self._somewhere(replace(play, scene=play.scene + 1)), None)
        return self._others[key]

    def _somewhere(self, play: Play) -> Iterator[SpatialSample]:
        """Samples of a scene from clicks that work."""
        pairs = itertools.pairwise(GRID) if play.task == "pt" else ((place,) for place in GRID)
        for clicks in pairs:
            try:
                scenario = self._scenario(replace(play, clicks=clicks))
            except UserError:
                continue
            yield scenario.sample

    def change(self, play: Play, arm: str) -> bytes:
        """What was imagined after an intervention; ``other``: another scene's true picture, ``truth``: this one's."""
        if play.imagined is None:
            raise UserError("there is nothing to change yet; let the model imagine first")
        if arm == "truth":
            return self._true(play.sample, "these pictures")
        if arm == "other":
            other = self._other(play)
            if other is None:
                raise UserError("there is no other scene's picture here")
            return self._true(other, "that scene")
        return self.player.change(arm, play.sample, play.imagined.picture, play.seed)

    def _true(self, sample: SpatialSample, what: str) -> bytes:
        if not sample.has_imagination:
            raise UserError(f"nobody knows the true picture of {what}")
        return self.player.subject.sized(sample.imagination, sample.task).data

    def ask_again(self, play: Play, picture: bytes) -> Play:
        """With the answer from a changed picture."""
        if play.imagined is None or not play.sample.choices:
            raise UserError("there is no question, or no picture yet; let the model imagine first")
        prediction = self.player.answer_from(play.sample, play.imagined.thoughts, picture, play.seed)
        return replace(play, answers={**play.answers, EDITED: prediction})

    def bring(self, pictures: Sequence[bytes], task: str, question: str, choices: Sequence[str]) -> Play:
        """A visitor with pictures and a question of their own."""
        checked_uploads(pictures)
        options = [choice.strip() for choice in choices if choice.strip()]
        if not question.strip() or len(question) + sum(map(len, options)) > MAX_TEXT:
            raise UserError(f"a question is needed, of at most {MAX_TEXT} letters with its options")
        if len(options) == 1:
            raise UserError("give at least two options, one a line, or none to have a picture drawn only")
        asked = own_question(self.player.checkpoint, pictures, question.strip(), options, task)
        questions = (asked,) if options else ()
        scenario = Scenario(asked, questions, pictures[0], tuple(pictures), b"")
        return Play(task, "own", 0, picture=pictures[0], message=READY, scenario=scenario)

    def mark(self, picture: bytes, at: Place) -> bytes:
        """One's own picture with the red X at a click, drawn as if on the floor before a camera of eye height."""
        checked_uploads([picture])
        return next(iter(self.simulators.values())).mark(picture, at)

    def _simulator(self, room: str) -> Simulator:
        if room not in self.simulators:
            raise UserError(unknown_name("kind of room", room, self.simulators))
        return self.simulators[room]


def missing_clicks(task: str, clicks: int) -> str:
    """What is still to be clicked, in words; empty where a picture can be asked for."""
    if task == "pt" and clicks < 2:
        return "Click where the walk goes next."
    if task == "mvc" and 1 < clicks < FRAMES:
        left = FRAMES - clicks
        return f"Click {left} more place{'s' * (left > 1)}."
    return "" if clicks else INVITATIONS[task]


def checked_uploads(pictures: Sequence[bytes]) -> None:
    """``UserError`` for none or too many, ``BadImage`` for one that is too large or no PNG, JPEG or WebP."""
    if not 1 <= len(pictures) <= MAX_PICTURES:
        raise UserError(f"choose 1 to {MAX_PICTURES} pictures, got {len(pictures)}")
    for number, data in enumerate(pictures, start=1):
        if len(data) > MAX_BYTES:
            raise BadImage(f"picture {number}: {len(data):,} bytes, at most {MAX_BYTES:,} are allowed")
        image_size(data, f"picture {number}", MAX_PIXELS)
        decode_image(data, f"picture {number}", MAX_PIXELS)
