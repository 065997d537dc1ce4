"""Question templates: at least ten per question type, in first, second and third person, in our own words.

A template names its blanks in braces. ``word`` fills one; nothing else in the project writes a question.
"""

# ruff: noqa: E501 (a template stays on one line)
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Person = Literal[1, 2, 3]


@dataclass(frozen=True, slots=True)
class Template:
    """A question with blanks, and the grammatical person it speaks in.

    ``id`` is its list and place there, such as ``pt_path-07``; samples keep it, so new templates go to the end of a list.
    """

    id: str
    person: Person
    text: str


def templates(name: str, *texts: tuple[Person, str]) -> tuple[Template, ...]:
    return tuple(Template(f"{name}-{place:02d}", person, text) for place, (person, text) in enumerate(texts))


PET_DISTANCE = templates(
    "pet_distance",
    (1, "If I walk to the red 'X' without turning and then turn {turn} by 90 degrees, will the {object} be closer to me or further away than it is now?"),
    (1, "I step onto the red 'X', still facing the same way, and rotate 90 degrees to the {turn}. Does that bring me closer to the {object} or further from it?"),
    (1, "Suppose I stand on the red 'X' in the picture, keep my heading, and then make a 90-degree {turn} turn. Is the {object} nearer or further from me than before?"),
    (1, "My next move takes me to the red 'X', after which I turn 90 degrees {turn}. Will I end up closer to the {object}, or further from it?"),
    (2, "You move to the red 'X', keeping the direction you face, and turn {turn} by 90 degrees. Compared with now, is the {object} closer or further?"),
    (2, "Imagine that you go to the red 'X' without changing your heading and then turn {turn} a quarter of a full circle. Has the {object} come closer to you or moved further away?"),
    (2, "Picture yourself on the red 'X', first facing as in this view, then turned 90 degrees to the {turn}. Is the {object} closer to you there than here, or further?"),
    (2, "After you have walked to the red 'X' and turned 90 degrees {turn}, how has your distance to the {object} changed: closer or further?"),
    (3, "Someone with this view walks to the red 'X', keeps facing the same way, and then turns {turn} by 90 degrees. Does the {object} get closer or further for them?"),
    (3, "A robot sees this scene, drives to the red 'X' with unchanged heading and rotates 90 degrees {turn}. Is the {object} then closer to it or further from it?"),
    (3, "The camera is carried to the red 'X' without rotating and is then turned 90 degrees to the {turn}. Relative to its first place, is it closer to the {object} or further from it?"),
    (3, "Once the person behind this camera has reached the red 'X' and turned {turn} through 90 degrees, will the {object} be at a closer or a further distance?"),
)  # fmt: skip

PET_POSITION = templates(
    "pet_position",
    (1, "If I walk to the red 'X' without turning and then turn {turn} by 90 degrees, will I see the {object} on the left or on the right?"),
    (1, "I step onto the red 'X', still facing the same way, and rotate 90 degrees to the {turn}. On which side of my view is the {object} now?"),
    (1, "Suppose I stand on the red 'X' in the picture, keep my heading, and then make a 90-degree {turn} turn. Is the {object} to my left or to my right?"),
    (1, "My next move takes me to the red 'X', after which I turn 90 degrees {turn}. Which half of what I see will the {object} be in?"),
    (2, "You move to the red 'X', keeping the direction you face, and turn {turn} by 90 degrees. Is the {object} on your left or your right then?"),
    (2, "Imagine that you go to the red 'X' without changing your heading and then turn {turn} a quarter of a full circle. Which side of you is the {object} on?"),
    (2, "Picture yourself on the red 'X', first facing as in this view, then turned 90 degrees to the {turn}. Does the {object} appear on the left or on the right?"),
    (2, "After you have walked to the red 'X' and turned 90 degrees {turn}, is the {object} in the left or the right half of your view?"),
    (3, "Someone with this view walks to the red 'X', keeps facing the same way, and then turns {turn} by 90 degrees. Will the {object} be on their left or on their right?"),
    (3, "A robot sees this scene, drives to the red 'X' with unchanged heading and rotates 90 degrees {turn}. On which side of its new view is the {object}?"),
    (3, "The camera is carried to the red 'X' without rotating and is then turned 90 degrees to the {turn}. Does the {object} fall in the left or the right half of the new picture?"),
    (3, "Once the person behind this camera has reached the red 'X' and turned {turn} through 90 degrees, is the {object} to the left or to the right?"),
)  # fmt: skip

PET_DISTANCE_ARROW = templates(
    "pet_distance_arrow",
    (1, "If I walk to the red 'X' and then face along the blue arrow, will the {object} be closer to me or further away than it is now?"),
    (1, "I step onto the red 'X' and look where the blue arrow points. Does that bring me closer to the {object} or further from it?"),
    (1, "Suppose I stand on the red 'X' and turn to the direction of the blue arrow. Is the {object} nearer or further from me than before?"),
    (1, "My next move takes me to the red 'X', facing as the blue arrow shows. Will I end up closer to the {object}, or further from it?"),
    (2, "You move to the red 'X' and turn to face along the blue arrow. Compared with now, is the {object} closer or further?"),
    (2, "Imagine that you go to the red 'X' and look along the blue arrow. Has the {object} come closer to you or moved further away?"),
    (2, "Picture yourself on the red 'X', looking where the blue arrow points. Is the {object} closer to you there than here, or further?"),
    (2, "After you have walked to the red 'X' and turned as the blue arrow shows, how has your distance to the {object} changed: closer or further?"),
    (3, "Someone with this view walks to the red 'X' and faces along the blue arrow. Does the {object} get closer or further for them?"),
    (3, "A robot sees this scene, drives to the red 'X' and turns to the blue arrow's direction. Is the {object} then closer to it or further from it?"),
    (3, "The camera is carried to the red 'X' and pointed along the blue arrow. Relative to its first place, is it closer to the {object} or further from it?"),
    (3, "Once the person behind this camera has reached the red 'X' and faces the way of the blue arrow, will the {object} be at a closer or a further distance?"),
)  # fmt: skip

PET_POSITION_ARROW = templates(
    "pet_position_arrow",
    (1, "If I walk to the red 'X' and then face along the blue arrow, will I see the {object} on the left or on the right?"),
    (1, "I step onto the red 'X' and look where the blue arrow points. On which side of my view is the {object} now?"),
    (1, "Suppose I stand on the red 'X' and turn to the direction of the blue arrow. Is the {object} to my left or to my right?"),
    (1, "My next move takes me to the red 'X', facing as the blue arrow shows. Which half of what I see will the {object} be in?"),
    (2, "You move to the red 'X' and turn to face along the blue arrow. Is the {object} on your left or your right then?"),
    (2, "Imagine that you go to the red 'X' and look along the blue arrow. Which side of you is the {object} on?"),
    (2, "Picture yourself on the red 'X', looking where the blue arrow points. Does the {object} appear on the left or on the right?"),
    (2, "After you have walked to the red 'X' and turned as the blue arrow shows, is the {object} in the left or the right half of your view?"),
    (3, "Someone with this view walks to the red 'X' and faces along the blue arrow. Will the {object} be on their left or on their right?"),
    (3, "A robot sees this scene, drives to the red 'X' and turns to the blue arrow's direction. On which side of its new view is the {object}?"),
    (3, "The camera is carried to the red 'X' and pointed along the blue arrow. Does the {object} fall in the left or the right half of the new picture?"),
    (3, "Once the person behind this camera has reached the red 'X' and faces the way of the blue arrow, is the {object} to the left or to the right?"),
)  # fmt: skip

PT_PATH = templates(
    "pt_path",
    (1, "I follow the path on the {map} from waypoint {start} to waypoint {end}. {views}What do I see on my {side} as I pass the midpoint M1?"),
    (1, "The {map} shows my route from {start} to {end}. {views}Which of these objects is on my {side} when I am at M1?"),
    (1, "I am on my way from point {start} to point {end} along the marked path of the {map}. {views}At the midpoint M1, which object can I see to my {side}?"),
    (1, "Suppose I walk the line on the {map} from {start} to {end} and stop at M1. {views}Looking to my {side}, which object is there?"),
    (2, "You walk the path marked on the {map} from waypoint {start} to waypoint {end}. {views}Which object can you see on your {side} at the midpoint M1?"),
    (2, "Following the {map}, you go from {start} to {end} by way of M1. {views}What is on your {side} side when you reach M1?"),
    (2, "You set out from point {start} of the {map} and head for point {end}. {views}As you pass M1 and glance to the {side}, which object do you see?"),
    (2, "Your route on the {map} leads from {start} through M1 to {end}. {views}Which of the following would you find to your {side} at M1?"),
    (3, "Someone walks along the path on the {map} from waypoint {start} to waypoint {end}. {views}Which object is visible on their {side} at the midpoint M1?"),
    (3, "A robot drives the marked route of the {map} from {start} to {end}. {views}If it turns its camera {side} at M1, which object does it see?"),
    (3, "On the {map}, a person goes from point {start} to point {end}. {views}What lies on the person's {side} halfway, at M1?"),
    (3, "A visitor takes the path of the {map} from {start} to {end}, passing M1. {views}Which object can the visitor see on the {side} there?"),
)  # fmt: skip

PT_MIDPOINT = templates(
    "pt_midpoint",
    (1, "I stand at M1 on the {map} and face the way the orange pointer shows. {views}Which object can I see on my {side}?"),
    (1, "M1 on the {map} is where I am; the orange pointer is my heading. {views}What is on my {side} side?"),
    (1, "The {map} marks my place, M1, and where I am heading in orange. {views}Which of these objects is to my {side}?"),
    (1, "If I stop at M1 on the {map}, heading along the orange pointer, and look {side}, what do I see? {views}"),
    (2, "You stand at M1 on the {map}, facing along the orange pointer. {views}Which object can you see on your {side}?"),
    (2, "Your place on the {map} is M1 and the orange pointer is your heading. {views}What would you find to your {side}?"),
    (2, "Imagine yourself at M1 of the {map}, looking where the orange pointer points. {views}What is on your {side} side?"),
    (2, "At M1 on the {map} you head the way of the orange pointer and glance to the {side}. {views}Which object do you see?"),
    (3, "Someone stands at M1 on the {map}, facing along the orange pointer. {views}Which object is visible on their {side}?"),
    (3, "A robot waits at M1 of the {map}; the orange pointer is its heading. {views}If it turns its camera {side}, which object does it see?"),
    (3, "The {map} shows a person at M1 who faces along the orange pointer. {views}What lies on the person's {side}?"),
    (3, "A visitor at M1 of the {map} heads the way of the orange pointer. {views}Which object can the visitor see on the {side}?"),
)  # fmt: skip

MVC_COUNT = templates(
    "mvc_count",
    (1, "I look around this place and take these pictures. How many {objects} are there in all?"),
    (1, "These are my views of one area. How many different {objects} do I see across them?"),
    (1, "Going by the pictures I took here, what is the total number of {objects}, each counted once?"),
    (1, "Some {objects} may appear in several of my views. How many distinct ones are there?"),
    (2, "How many {objects} are in this area? Count each one only once."),
    (2, "You see one place from several camera positions. How many {objects} does it hold?"),
    (2, "Count the {objects} that you can see in the explored area, without counting any of them twice."),
    (2, "Put the views together: how many separate {objects} do you find?"),
    (3, "A camera recorded these frames in one place. How many {objects} are visible in total?"),
    (3, "Someone explored this area and saw these views. How many different {objects} did they see?"),
    (3, "A robot took these pictures at the same place. How many {objects} are there altogether?"),
    (3, "The frames show one area from several viewpoints. What is the number of distinct {objects} in it?"),
)  # fmt: skip

PET_VIEW = templates(
    "pet_view",
    (1, "This is what I see. I {motion}. Show me what I see then."),
    (1, "From here I {motion}. Generate the view that I have afterwards."),
    (1, "Suppose I {motion}, starting from this picture. Draw what is in front of me at the end."),
    (1, "I am about to {motion}. Picture my next view of this place."),
    (2, "You {motion} from where this picture was taken. Generate the view that you then have."),
    (2, "Imagine that you {motion}. Draw what you see from there."),
    (2, "Starting with this view, {motion}. Generate the picture that shows what you see at the end."),
    (2, "What do you see after you {motion}? Generate that view."),
    (3, "The camera is about to {motion}. Generate the picture that it takes there."),
    (3, "Let the viewer {motion}, and draw what comes into view."),
    (3, "A robot sees this and is told to {motion}. Generate what it sees when it has done so."),
    (3, "Have the photographer {motion}; then generate the second picture of this place."),
)  # fmt: skip

TEMPLATES: Mapping[str, tuple[Template, ...]] = {
    entries[0].id.rpartition("-")[0]: entries
    for entries in (
        PET_DISTANCE,
        PET_POSITION,
        PET_DISTANCE_ARROW,
        PET_POSITION_ARROW,
        PT_PATH,
        PT_MIDPOINT,
        MVC_COUNT,
        PET_VIEW,
    )
}

#: One wording of a few words per question type, for models that are too small to spend capacity on language.
PLAIN: Mapping[str, tuple[Template, ...]] = {
    "pet_distance": templates("plain_pet_distance", (2, "On the X, turned {turn}: is the {object} closer or further?")),
    "pet_position": templates("plain_pet_position", (2, "On the X, turned {turn}: is the {object} left or right?")),
    "pet_distance_arrow": templates(
        "plain_pet_distance_arrow", (2, "On the X, facing along the arrow: is the {object} closer or further?")
    ),
    "pet_position_arrow": templates(
        "plain_pet_position_arrow", (2, "On the X, facing along the arrow: is the {object} left or right?")
    ),
    "pt_path": templates("plain_pt_path", (2, "From {start} to {end} on the {map}: what is {side} of M1?")),
    "pt_midpoint": templates("plain_pt_midpoint", (2, "At M1 on the {map}: what is {side}?")),
    "mvc_count": templates("plain_mvc_count", (2, "How many {objects}?")),
    "pet_view": templates("plain_pet_view", (2, "Draw: {motion}.")),
}


def wordings(plain: bool) -> Mapping[str, tuple[Template, ...]]:
    """The templates of every question type: all of them, or the plain ones."""
    return PLAIN if plain else TEMPLATES


def word(template: Template, **blanks: str) -> str:
    """The template with its blanks filled; a missing blank is a ``KeyError``."""
    return " ".join(template.text.format(**blanks).split())
