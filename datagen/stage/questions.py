"""What could be asked after a click, with answers that come from boxes, cameras and masks; in the words of the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datagen.backends.base import Frame
from datagen.language import plural, spelled, with_article
from datagen.tasks.base import SceneView
from datagen.tasks.multiview_counting import countable
from datagen.tasks.path_settings import OPTIONS
from datagen.tasks.perspective_questions import KINDS
from datagen.tasks.perspective_taking import PerspectiveTakingConfig, answers, sub_category
from datagen.tasks.vocabulary import out_of_view, vocabulary_of
from datagen.visibility import InstanceStats
from ipt.common.seeding import generator
from ipt.samples.questions import word, wordings

#: Thresholds of the task whose questions are asked.
ASKABLE = PerspectiveTakingConfig()
#: Of a view, for an object to be what a question asks for, and for one to count as seen at all.
CLEAR, FAINT = 0.004, 0.0002


@dataclass(frozen=True)
class Asked:
    """A question with its right answer, one of ``choices``; ``question_type`` as in the task's samples."""

    question: str
    question_type: str
    choices: tuple[str, ...]
    answer_text: str


def about_move(scene: SceneView, before: Frame, after: Frame, turn: str) -> list[Asked]:
    """Distance and side of every object that both views show well and alone of its name, largest first."""
    frames = (before, after)
    stats = [scene.stats(frame) for frame in frames]
    texts, found = wordings(scene.config.plain), list[Asked]()
    for index in np.argsort(-stats[1].area, kind="stable").tolist():
        if index not in scene.candidates or not all(askable(scene, one, index) for one in stats):
            continue
        centre, name = scene.objects[index].centre, spelled(scene.names[index])
        away = [float(np.linalg.norm(centre - np.asarray(frame.camera.pose.position))) for frame in frames]
        sides = side(stats[0].centre[index, 0]), side(stats[1].centre[index, 0])
        for kind, answer in answers(sides, away[1] - away[0], ASKABLE):
            template = texts["pet_distance" if kind == "distance" else "pet_position"][0]
            choices = tuple(option.capitalize() for option in KINDS[kind])
            question = word(template, object=name, turn=turn)
            found.append(Asked(question, sub_category(kind, answer), choices, answer.capitalize()))
    return found


def askable(scene: SceneView, stats: InstanceStats, index: int) -> bool:
    """Whether a view shows an object well, and nothing else that may be taken for it."""
    alike = scene.lookalikes[scene.names[index]]
    others = (other for other in np.flatnonzero(stats.pixels).tolist() if other != index)
    return bool(stats.area[index] >= CLEAR) and not any(scene.names[other] in alike for other in others)


def side(u: float) -> str | None:
    """``left`` or ``right`` of a picture, 0..1 from its left; None near its middle, and for what it does not show."""
    if np.isnan(u) or abs(u - 0.5) < ASKABLE.centre_margin:
        return None
    return "left" if u < 0.5 else "right"


def about_walk(scene: SceneView, view: Frame, beside: str) -> list[Asked]:
    """The largest thing of the view to the ``beside`` of a walk, among three that it does not show; none where it shows nothing
    well, or the scene holds too few other things."""
    stats = scene.stats(view)
    shown = [index for index in np.argsort(-stats.area, kind="stable").tolist() if index in scene.candidates]
    clear = [scene.names[index] for index in shown if stats.area[index] >= CLEAR]
    seen = {scene.names[index] for index in np.flatnonzero(stats.pixels)}
    wrong = out_of_view({scene.names[index] for index in scene.candidates}, seen)
    if not clear or len(wrong) < OPTIONS - 1:
        return []
    rng = generator(0, "options", scene.info.scene_id, clear[0])
    drawn = rng.choice(sorted(wrong), OPTIONS - 1, replace=False).tolist()
    choices = tuple(with_article(noun) for noun in rng.permutation([clear[0], *drawn]).tolist())
    template = wordings(scene.config.plain)["pt_path"][0]
    text = word(template, map="top-down map", start="1", end="2", side=beside, views="")
    return [Asked(text, "own", choices, with_article(clear[0]))]


def about_views(scene: SceneView, views: Sequence[Frame]) -> list[Asked]:
    """How many there are of every kind of thing of which all that the views show is shown well; the most numerous first."""
    best = np.max([scene.stats(view).area for view in views], axis=0)
    template, found = wordings(scene.config.plain)["mvc_count"][0], list[tuple[int, Asked]]()
    for noun, members in kinds(scene).items():
        clear = sum(bool(best[index] >= CLEAR) for index in members)
        if not clear or clear != sum(bool(best[index] >= FAINT) for index in members):
            continue
        rng = generator(0, "numbers", scene.info.scene_id, noun, clear)
        first = max(1, clear - int(rng.integers(OPTIONS)))  # the right one stands anywhere
        choices = tuple(str(first + step) for step in range(OPTIONS))
        question = word(template, objects=plural(noun))
        found.append((clear, Asked(question, "own", choices, str(clear))))
    return [asked for _, asked in sorted(found, key=lambda pair: -pair[0])]


def kinds(scene: SceneView) -> Mapping[str, frozenset[int]]:
    """What is counted."""
    return countable(scene, vocabulary_of(scene.info.backend), False)
