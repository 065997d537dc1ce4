"""What the words of a backend mean to someone who is asked: kinds that join categories, lookalikes, nouns without a piece.

Every backend has nouns of its own ("lamp" is a category of Habitat's scans and a kind of three categories in embedded homes),
so each has a vocabulary of its own. Counting is the paper's "How many {category}(s) are in this area?" (IPT paper, section on
MVC); the kinds are ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from datagen.language import head


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``groups``: kinds of which homes have several, although of each category only one or two; a kind that is a category,
    too, is a member of itself. ``lookalikes``: what one may take for a noun; where such a thing is in view, the question is
    refused. ``uncountable``: nouns that do not say what one piece of them is.
    """

    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lookalikes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    uncountable: frozenset[str] = frozenset()


VOCABULARIES: Mapping[str, Vocabulary] = {
    "embedded": Vocabulary(
        groups={
            "seat": ("chair", "armchair", "sofa", "stool", "office chair", "bench", "ottoman"),
            "table": (
                "dining table",
                "meeting table",
                "coffee table",
                "side table",
                "console table",
                "desk",
                "nightstand",
            ),
            "storage unit": ("cabinet", "wardrobe", "bookshelf", "dresser", "tv stand", "nightstand", "shoe rack"),
            "kitchen appliance": ("stove", "fridge", "microwave", "toaster", "kettle", "dishwasher", "coffee machine"),
            "lamp": ("table lamp", "floor lamp", "ceiling lamp"),
            "bathroom fixture": ("toilet", "bathtub", "shower", "bathroom sink", "washing machine"),
            "electronic device": ("television", "monitor", "laptop", "keyboard", "speaker"),
            "container": ("trash bin", "basket", "laundry basket", "box", "suitcase", "backpack"),
        },
        lookalikes={
            "cabinet": (
                "kitchen counter",
                "kitchen island",
                "wall cabinet",
                "sink",
                "bathroom sink",
                "tv stand",
                "dresser",
                "shoe rack",
            ),
            "storage unit": ("kitchen counter", "kitchen island", "wall cabinet", "sink", "bathroom sink"),
            "dining table": ("meeting table",),
            "meeting table": ("dining table", "desk"),
            "kitchen island": ("kitchen counter",),
            "dresser": ("cabinet", "nightstand"),
            "chair": ("office chair", "armchair"),
            "stool": ("ottoman", "side table"),
            "ottoman": ("stool",),
            "side table": ("stool", "nightstand"),
            "nightstand": ("side table",),
            "basket": ("laundry basket", "trash bin"),
            "laundry basket": ("basket", "trash bin"),
            "trash bin": ("basket", "laundry basket"),
            "television": ("monitor",),
            "monitor": ("television",),
        },
        uncountable=frozenset({"books", "kitchen counter", "wall cabinet", "toy blocks", "curtain"}),
    ),
    "ai2thor": Vocabulary(
        groups={
            "seat": ("chair", "armchair", "sofa", "stool", "ottoman", "footstool"),
            "table": ("dining table", "coffee table", "side table", "desk"),
            "storage unit": ("cabinet", "dresser", "shelving unit", "tv stand"),
            "kitchen appliance": ("fridge", "microwave", "toaster", "kettle", "coffee machine"),
            "lamp": ("desk lamp", "floor lamp"),
            "electronic device": ("television", "laptop", "desktop computer"),
            "container": ("trash bin", "laundry hamper", "box"),
        },
        lookalikes={
            "cabinet": ("drawer", "dresser", "counter", "tv stand", "shelving unit"),
            "drawer": ("cabinet", "dresser"),
            "dresser": ("cabinet", "drawer", "side table"),
            "storage unit": ("drawer", "counter", "side table"),
            "chair": ("armchair",),
            "stool": ("ottoman", "footstool", "side table"),
            "ottoman": ("stool", "footstool"),
            "footstool": ("stool", "ottoman"),
            "side table": ("stool", "dresser"),
            "shelf": ("shelving unit",),
            "cup": ("mug", "bowl"),
            "mug": ("cup",),
            "pot": ("pan",),
            "pan": ("pot",),
            "trash bin": ("laundry hamper", "trash bag"),
            "painting": ("poster",),
            "poster": ("painting",),
            "television": ("desktop computer",),
        },
        uncountable=frozenset(
            {
                *("counter", "curtains", "blinds", "bread", "cloth", "aluminum foil", "toilet paper", "decoration"),
                *("sink basin", "bathtub basin", "shower glass", "shower door", "shower curtain", "shower head"),
            }
        ),
    ),
    "habitat": Vocabulary(
        groups={
            "seat": ("chair", "armchair", "sofa", "stool", "bar stool", "bench", "ottoman"),
            "table": ("table", "dining table", "coffee table", "side table", "desk", "nightstand"),
            "storage unit": ("cabinet", "wardrobe", "bookshelf", "dresser", "chest of drawers", "tv stand"),
            "kitchen appliance": ("stove", "oven", "fridge", "microwave", "dishwasher", "coffee machine"),
            "lamp": ("lamp", "table lamp", "floor lamp"),
            "bathroom fixture": ("toilet", "bathtub", "shower", "sink", "washing machine", "urinal"),
            "electronic device": ("television", "monitor", "laptop", "computer", "speaker", "printer"),
            "container": ("trash bin", "basket", "laundry basket", "box", "suitcase"),
        },
        lookalikes={
            "cabinet": ("counter", "sink", "tv stand", "dresser", "chest of drawers", "wardrobe"),
            "storage unit": ("counter", "bathroom cabinet", "nightstand", "shelf"),
            "dresser": ("cabinet", "chest of drawers", "nightstand"),
            "chest of drawers": ("cabinet", "dresser", "nightstand"),
            "nightstand": ("side table", "chest of drawers", "dresser"),
            "side table": ("stool", "nightstand", "table"),
            "dining table": ("table",),
            "coffee table": ("table",),
            "desk": ("table",),
            "table": ("counter", "pool table", "table tennis table"),
            "chair": ("armchair",),
            "stool": ("ottoman",),
            "ottoman": ("stool",),
            "table lamp": ("lamp",),
            "floor lamp": ("lamp",),
            "bookshelf": ("shelf",),
            "stove": ("oven",),
            "oven": ("stove",),
            "washing machine": ("dryer", "dishwasher"),
            "dryer": ("washing machine",),
            "basket": ("trash bin",),
            "laundry basket": ("basket", "trash bin"),
            "trash bin": ("basket", "laundry basket"),
            "television": ("monitor",),
            "monitor": ("television",),
        },
        uncountable=frozenset({"counter", "book", "shelf"}),
    ),
    "messytable": Vocabulary(
        lookalikes={
            "glass": ("big wineglass", "small wineglass"),
            "can": ("pepsi", "coke"),
            "water bottle": ("tea bottle",),
            "piece of sushi": ("piece of shrimp sushi",),
        },
        # goods that share nothing but a word, or that no word of English counts
        uncountable=frozenset({"pack", "fruit", "ham", "instant ramen", "bread"}),
    ),
}
NONE = Vocabulary()
#: Backends whose annotators' words become the categories of another one.
SPOKEN_AS: Mapping[str, str] = {"scannetpp": "habitat", "matterport3d": "habitat"}


#: Adjectives that tell two things of a kind apart: a red cube is no blue cube, but a wall cabinet may be taken for a cabinet.
COLOURS = frozenset({"blue", "cyan", "green", "orange", "purple", "red", "white", "yellow"})


@lru_cache(maxsize=2**16)
def shares_head(one: str, other: str) -> bool:
    """Whether two nouns are of one kind, as ``bowl`` and ``fruit bowl`` or ``side table`` and ``coffee table``, unless their
    colours differ."""
    colours = [noun.partition(" ")[0] for noun in (one, other)]
    told_apart = colours[0] != colours[1] and COLOURS.issuperset(colours)
    return head(one) == head(other) and not told_apart


def out_of_view(nouns: Iterable[str], in_view: Collection[str]) -> list[str]:
    """The nouns that nothing in view may be taken for."""
    return sorted(noun for noun in nouns if not any(shares_head(thing, noun) for thing in in_view))


def looks_like(thing: str, noun: str, vocabulary: Vocabulary) -> bool:
    """Whether a thing may be taken for a ``noun``: a bar stool for a stool, a monitor for a television."""
    return shares_head(thing, noun) or thing in vocabulary.lookalikes.get(noun, ())


def vocabulary_of(backend: str) -> Vocabulary:
    """The vocabulary of the backend with that name, an empty one for a backend that has none."""
    return VOCABULARIES.get(SPOKEN_AS.get(backend, backend), NONE)
