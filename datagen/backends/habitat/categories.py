"""From the words of scan annotators to ours: which objects questions may be about, and what they are called.

HM3D's annotators typed freely ("l-shaped sofa", "tv stand", "Night Stand"), Matterport3D has 40 classes ("tv_monitor"),
ReplicaCAD and HSSD name templates ("frl_apartment_chair_01"). A category counts as furniture if its words are, or end
with, an entry below (Habitat PET uses a whitelist of about 70 furniture categories, paper section on data generation).
"""

from __future__ import annotations

import re

#: Normalised category -> other words for it.
FURNITURE: dict[str, tuple[str, ...]] = {
    "armchair": ("arm chair", "recliner", "lounge chair"),
    "bar stool": ("barstool", "bar chair"),
    "basket": (),
    "bathroom cabinet": ("medicine cabinet",),
    "bathtub": ("bath tub", "bath", "tub"),
    "bed": ("bunk bed", "single bed", "double bed", "crib"),
    "bench": (),
    "book": ("books",),
    "bookshelf": ("book shelf", "bookcase", "book case", "book rack"),
    "box": ("cardboard box", "storage box"),
    "cabinet": ("cabinets", "cupboard", "file cabinet", "kitchen cabinet", "display cabinet"),
    "chair": ("office chair", "dining chair", "computer chair", "desk chair", "rocking chair", "swivel chair"),
    "chest of drawers": ("chest", "drawers", "chest drawer"),
    "clock": ("wall clock",),
    "coat rack": ("clothes rack", "clothes hanger", "clothing rack"),
    "coffee machine": ("coffee maker",),
    "coffee table": ("cocktail table",),
    "computer": ("desktop computer", "computer tower"),
    "counter": ("kitchen counter", "countertop", "counter top", "kitchen island", "worktop"),
    "desk": ("writing desk", "office desk", "computer desk"),
    "dining table": ("dinner table",),
    "dishwasher": (),
    "dresser": (),
    "dryer": ("clothes dryer", "tumble dryer"),
    "easel": (),
    "exercise bike": ("exercise machine", "treadmill", "gym equipment"),
    "fan": ("standing fan", "floor fan"),
    "fireplace": (),
    "floor lamp": ("standing lamp",),
    "fridge": ("refrigerator", "freezer"),
    "guitar": (),
    "heater": ("radiator",),
    "lamp": ("light lamp",),
    "laptop": (),
    "laundry basket": ("hamper",),
    "microwave": ("microwave oven",),
    "mirror": (),
    "monitor": ("computer monitor", "computer screen"),
    "nightstand": ("night stand", "bedside table", "bedside cabinet", "end table"),
    "ottoman": ("footstool", "foot stool", "pouf"),
    "oven": ("wall oven",),
    "painting": ("picture", "photo", "poster", "wall art", "framed picture"),
    "phone": ("telephone",),
    "piano": ("grand piano",),
    "pillow": ("cushion",),
    "pool table": ("billiard table",),
    "potted plant": ("plant", "flower pot", "plant pot", "houseplant", "flowerpot"),
    "printer": (),
    "rug": ("carpet", "mat", "doormat"),
    "sculpture": ("statue",),
    "shelf": ("shelves", "shelving", "wall shelf", "shoe rack", "rack"),
    "shower": ("shower stall", "shower cabin"),
    "side table": ("console table",),
    "sink": ("washbasin", "wash basin", "kitchen sink", "bathroom sink"),
    "sofa": ("couch", "l-shaped sofa", "sectional sofa", "loveseat", "settee"),
    "speaker": ("loudspeaker",),
    "stool": (),
    "stove": ("cooktop", "cooker", "stovetop", "range"),
    "suitcase": ("luggage",),
    "table": (),
    "table lamp": ("desk lamp", "bedside lamp"),
    "table tennis table": ("ping pong table",),
    "television": ("tv", "tv screen", "tv monitor", "tv set"),
    "toilet": ("wc",),
    "toy": ("teddy bear", "stuffed animal"),
    "trash bin": ("bin", "trash can", "trashcan", "garbage can", "garbage bin", "wastebasket"),
    "tv stand": ("television stand", "tv cabinet", "tv unit"),
    "urinal": (),
    "vase": (),
    "wardrobe": ("closet", "armoire"),
    "washing machine": ("washer", "laundry machine"),
}
STRUCTURE = frozenset(
    re.findall(
        r"\w+",
        """wall floor ceiling door window doorway stair stairs staircase step railing banister beam column pillar roof frame
        doorframe skylight baseboard molding moulding arch lintel vent mezzanine room light
        void misc unknown unlabeled unlabelled object remove other stage""",
    )
)

_CATEGORY_OF = {word: name for name, others in FURNITURE.items() for word in (name, *others)}
_LONGEST = max(len(word.split()) for word in _CATEGORY_OF)


def furniture_category(raw: str) -> str | None:
    """The normalised category of an annotator's words, or None if it is not furniture.

    >>> furniture_category("Dark wooden office_chair")
    'chair'
    """
    words = clean(raw).split()
    for count in range(min(_LONGEST, len(words)), 0, -1):
        ending = " ".join(words[-count:])
        for candidate in (ending, ending.removesuffix("s")):
            if candidate in _CATEGORY_OF:
                return _CATEGORY_OF[candidate]
    return None


def is_structure(raw: str) -> bool:
    """Whether an annotation is a part of the building, or says that nobody knows what it is."""
    words = clean(raw).split()
    return not words or not STRUCTURE.isdisjoint((words[-1], words[-1].removesuffix("s")))


def clean(raw: str) -> str:
    """Lower-case words, one space apart, without template prefixes and trailing numbers (``frl_apartment_chair_01:0``)."""
    text = re.sub(r"[_/\s]+", " ", raw.lower().split(":")[0]).strip()
    return re.sub(r"( \d+)+$", "", text.removeprefix("frl apartment "))
