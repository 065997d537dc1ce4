"""The furniture libraries of Sweet Home 3D, as Debian's package ``sweethome3d-furniture`` installs them.

A library is a ZIP file NAME.sh3f with ``PluginFurnitureCatalog.properties`` (``name#7=Bed``, ``width#7=140.7``, ...: sizes in
centimetres, the creator's name) and OBJ models. Its licence is one line for all; only CC0 and CC BY are taken. An entry
becomes a category of ours by its name, if it has the size of one; what looks wrong is left out by name, with the reason.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datagen.backends.base import BackendUnavailable, SceneError

PACKAGE = "sweethome3d-furniture"
INSTALLED = Path("/usr/share/sweethome3d/furniture")  # where the package puts its libraries
INSTRUCTION = f"apt-get install -y {PACKAGE}, or backend.furniture_root=FOLDER with its files *.sh3f"
MOST_FACES = 30_000  # of a model
PROPERTIES = "PluginFurnitureCatalog.properties"
_LINE = re.compile(r"(\w+)(?:#(\d+))?=(.*)")
_LICENCES = (("public domain", "CC0 1.0"), ("creative commons attribution 3.0", "CC BY 3.0"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One model: where it is, what it is, its size (depth, width, height) in metres, and whom to thank for it.

    ``turn`` is the catalogue's 3 x 3 rotation of the model, row by row, if it has one; ``lift``: metres above the floor
    at which it hangs.
    """

    library: Path
    model: str
    key: str
    name: str
    category: str
    size: tuple[float, float, float]
    lift: float
    turn: tuple[float, ...]
    creator: str
    licence: str

    @property
    def credit(self) -> str:
        """The line that the licence asks for."""
        return f"{self.name} by {self.creator} ({self.licence}), {self.key}, from Sweet Home 3D's library {self.library.stem}"


#: Names in the catalogues, or ends of ids where the name says less, and the category of ours that they mean where size agrees.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "armchair": ("armchair", "modern armchair", "winchester armchair", "rattan armchair"),
    "sofa": (
        "sofa",
        "couch",
        "winchester sofa",
        "burlap sofa",
        "clear sofa",
        "sofa 2 seats",
        "sofa 3 seats",
        "futon couch",
    ),
    "chair": (
        *("chair", "oak chair", "osaka chair", "chair with cushion", "plastic chair", "antique chair", "folding chair"),
        *("class seat", "cafe chair"),
    ),
    "stool": ("stool", "bar stool", "piano bench"),
    "bench": ("bench", "painted bench"),
    "ottoman": ("puff",),
    "office chair": ("office_chair", "office-chair"),
    "bed": ("bed", "iron bed", "captain's bed", "child bed"),
    "nightstand": ("bedside table",),
    "wardrobe": ("wardrobe",),
    "dresser": ("dresser with drawers", "chest"),
    "bookshelf": ("bookcase", "full bookcase", "vertical shelves", "shelves"),
    "cabinet": ("cupboard", "chest"),
    "tv stand": ("tv stand",),
    "dining table": (
        *(
            "table",
            "oak table",
            "glass table",
            "round table",
            "wooden table",
            "wooden teak table",
            "wooden alder table",
        ),
        *("black table", "table on trestles", "folding table", "table with tablecloth", "cafe table"),
    ),
    "coffee table": ("coffee table", "rattan table", "glass table", "table"),
    "side table": ("table", "round table", "bar table"),
    "desk": (
        *("desk", "wooden desk", "wooden_office_teak_table", "wooden_office_alder_table", "wooden_office_pear_table"),
        "wooden_office_pear_table_rect",
    ),
    "fridge": ("fridge", "refrigerator", "large fridge"),
    "microwave": ("microwave",),
    "toaster": ("toaster",),
    "coffee machine": ("coffee machine", "coffee maker", "coffee brewer"),
    "kettle": ("teapot", "boiler"),
    "bowl": ("bowl", "bowl with salad"),
    "fruit bowl": ("bowl with fruits",),
    "cup": ("coffee cup", "cup", "coffee mug"),
    "plate": ("plate",),
    "bottle": ("bottle", "beer bottle", "wine bottle"),
    "knife block": ("knife stand",),
    "pan": ("large pan",),
    "toilet": ("toilets unit", "small lavatory"),
    "bathtub": ("bath",),
    "shower": ("shower stall",),
    "bathroom sink": ("washbasin", "vanity"),
    "washing machine": ("washing machine", "clothes washing machine", "dryer machine"),
    "potted plant": (
        *(
            "plant",
            "little plant",
            "indoor plant",
            "decorative plant",
            "bamboo",
            "ficus",
            "orchids",
            "cactus",
            "bonsai tree",
        ),
        *("spathiphyllum", "spider plant", "succulent plant", "yucca", "tulips", "white lily"),
    ),
    "vase": ("vase", "pottery", "flowers", "old jar"),
    "table lamp": ("lamp", "desk lamp", "little lamp", "pedestal vase lamp"),
    "floor lamp": ("lamp",),
    "fan": ("rigged fan", "table fan"),
    "speaker": ("speaker",),
    "television": ("tv", "tv 16:9", "wall flat tv"),
    "monitor": ("screen",),
    "laptop": ("laptop", "apple ibook"),
    "teddy bear": ("teddy bear",),
    "basketball": ("basketball",),
    "guitar": ("electric guitar",),
    "backpack": ("backpack",),
    "suitcase": ("suitcase",),
    "piano": ("upright piano",),
    "trash bin": ("dustbin", "bullet trash can", "recycling bin"),
    "box": ("box", "cardboard box", "open cardboard box", "crate"),
    "basket": ("shopping basket",),
    "laundry basket": ("clothes basket",),
}

#: (from, to) of width and height in metres: what our rooms have places for, and what one would call by the name.
SIZES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "armchair": ((0.55, 1.15), (0.6, 1.1)),
    "sofa": ((1.2, 2.4), (0.55, 1.05)),
    "chair": ((0.35, 0.62), (0.7, 1.1)),
    "stool": ((0.28, 0.65), (0.4, 0.85)),
    "bench": ((0.8, 1.5), (0.38, 0.9)),
    "ottoman": ((0.35, 0.8), (0.3, 0.55)),
    "office chair": ((0.5, 0.75), (0.8, 1.25)),
    "bed": ((0.85, 2.05), (0.4, 1.3)),
    "nightstand": ((0.35, 0.6), (0.35, 0.65)),
    "wardrobe": ((0.7, 2.05), (1.7, 2.4)),
    "dresser": ((0.6, 1.7), (0.6, 1.2)),
    "bookshelf": ((0.4, 1.7), (1.0, 2.25)),
    "cabinet": ((0.7, 1.6), (0.6, 1.6)),
    "tv stand": ((0.9, 1.8), (0.3, 0.65)),
    "dining table": ((0.6, 2.4), (0.68, 0.8)),
    "coffee table": ((0.6, 1.4), (0.3, 0.5)),
    "side table": ((0.3, 0.6), (0.4, 0.65)),
    "desk": ((0.9, 1.8), (0.68, 0.8)),
    "fridge": ((0.5, 0.95), (1.2, 2.1)),
    "microwave": ((0.35, 0.6), (0.2, 0.4)),
    "toaster": ((0.12, 0.4), (0.12, 0.3)),
    "coffee machine": ((0.12, 0.4), (0.2, 0.45)),
    "kettle": ((0.12, 0.3), (0.12, 0.3)),
    "bowl": ((0.1, 0.45), (0.04, 0.2)),
    "fruit bowl": ((0.15, 0.45), (0.06, 0.25)),
    "cup": ((0.05, 0.16), (0.04, 0.15)),
    "plate": ((0.15, 0.35), (0.01, 0.05)),
    "bottle": ((0.04, 0.12), (0.15, 0.4)),
    "knife block": ((0.05, 0.25), (0.15, 0.4)),
    "pan": ((0.2, 0.5), (0.05, 0.3)),
    "toilet": ((0.3, 0.5), (0.6, 0.95)),
    "bathtub": ((1.4, 1.85), (0.45, 0.75)),
    "shower": ((0.7, 1.1), (1.8, 2.3)),
    "bathroom sink": ((0.45, 1.0), (0.3, 1.0)),
    "washing machine": ((0.5, 0.7), (0.7, 1.0)),
    "potted plant": ((0.08, 1.1), (0.15, 1.9)),
    "vase": ((0.06, 0.4), (0.1, 0.5)),
    "table lamp": ((0.1, 0.45), (0.25, 0.8)),
    "floor lamp": ((0.2, 0.6), (1.2, 1.9)),
    "fan": ((0.2, 0.6), (0.3, 1.4)),
    "speaker": ((0.15, 0.5), (0.5, 1.3)),
    "television": ((0.6, 1.4), (0.35, 0.9)),
    "monitor": ((0.35, 0.75), (0.3, 0.65)),
    "laptop": ((0.2, 0.42), (0.12, 0.35)),
    "teddy bear": ((0.15, 0.5), (0.2, 0.6)),
    "basketball": ((0.2, 0.26), (0.2, 0.26)),
    "guitar": ((0.25, 0.5), (0.8, 1.2)),
    "backpack": ((0.2, 0.5), (0.3, 0.6)),
    "suitcase": ((0.3, 1.0), (0.4, 0.9)),
    "piano": ((1.2, 1.6), (0.9, 1.45)),
    "trash bin": ((0.2, 0.45), (0.2, 0.8)),
    "box": ((0.2, 0.95), (0.15, 0.65)),
    "basket": ((0.25, 0.6), (0.15, 0.5)),
    "laundry basket": ((0.3, 0.6), (0.35, 0.75)),
}

#: What is left out although name and size agree, by the end of its id, and why.
LEFT_OUT: dict[str, str] = {
    "bowl": "has a handle and looks like a large cup",
    "cupboard": "a nursery's, covered with letters",
    "tableWithTablecloth": "the cloth hides the table: nobody would look for chairs at it",
    "couch2": "a corner sofa: most of its box is empty floor",
}
#: The same for one library's model where others share its name: (library, end of id).
LEFT_OUT_OF = {("BlendSwap-CC-BY", "bookcase"): "has closed doors and looks like a wardrobe"}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All usable entries of a folder of libraries, by category, and the libraries' versions ("Scopia 1.8")."""

    root: Path
    entries: dict[str, tuple[Entry, ...]]
    versions: tuple[str, ...]

    @property
    def count(self) -> int:
        """Models, each counted once."""
        return len({(entry.library, entry.key) for found in self.entries.values() for entry in found})


def read_catalogue(root: str | None = None) -> Catalogue:
    """The libraries in ``root``, or of the installed package; ``BackendUnavailable`` says how to get them.

    ``SceneError`` names a library that cannot be read.
    """
    folder = Path(root) if root else INSTALLED
    libraries = sorted(folder.glob("*.sh3f"))
    if not libraries:
        raise BackendUnavailable(
            f"backend.furniture=sweethome3d: no furniture library (*.sh3f) in {folder}: {INSTRUCTION}"
        )
    found: dict[str, list[Entry]] = {}
    versions = []
    for path in libraries:
        entries, version = read_library(path)
        if entries:
            versions.append(f"{path.stem} {version}")
        for entry in entries:
            found.setdefault(entry.category, []).append(entry)
    return Catalogue(folder, {name: tuple(found[name]) for name in sorted(found)}, tuple(versions))


def read_library(path: Path) -> tuple[list[Entry], str]:
    """The usable entries of one library, in its order, and its version."""
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(PROPERTIES).decode("latin-1")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise SceneError(
            f"{path} is not a furniture library of Sweet Home 3D (a ZIP file with {PROPERTIES}): {error}"
        ) from error
    header: dict[str, str] = {}
    items: dict[int, dict[str, str]] = {}
    for match in map(_LINE.fullmatch, text.splitlines()):
        if match:
            values = header if match[2] is None else items.setdefault(int(match[2]), {})
            values[match[1]] = match[3].encode("latin-1").decode("unicode_escape").strip()
    licence = licence_of(header.get("license", ""))
    if licence is None:
        return [], header.get("version", "")
    entries = [
        entry
        for number in sorted(items)
        for category in categories_of(items[number].get("name", ""), items[number].get("id", ""))
        if (entry := entry_of(path, items[number], category, licence)) is not None
    ]
    return entries, header.get("version", "")


def licence_of(words: str) -> str | None:
    """The short name of a library's licence; None for one that we do not know to allow this use.

    >>> licence_of("Creative Commons Attribution 3.0 Unported license"), licence_of("Free for personal use")
    ('CC BY 3.0', None)
    """
    said = words.lower()
    return next((name for phrase, name in _LICENCES if phrase in said), None)


def categories_of(name: str, key: str = "") -> list[str]:
    """Our categories that an entry may mean, by its id if we know it, else by its name; size decides between them.

    >>> categories_of("Bedside table"), categories_of("Chair", "Scopia#office_chair"), categories_of("Fire hydrant")
    (['nightstand'], ['office chair'], [])
    """
    end = key.split("#")[-1]
    by_key = [category for category, names in CATEGORIES.items() if end in names and end != name.lower()]
    return by_key or [category for category, names in CATEGORIES.items() if name.lower() in names]


def entry_of(library: Path, values: dict[str, str], category: str, licence: str) -> Entry | None:
    """The entry if it has the size of its category and is not left out; None otherwise, or where a field is missing."""
    try:
        depth, width, height = (float(values[side]) / 100 for side in ("depth", "width", "height"))
        model, key = values["model"].lstrip("/"), values["id"]
    except (KeyError, ValueError):
        return None
    (narrow, wide), (low, high) = SIZES[category]
    end = key.split("#")[-1]
    if not (narrow <= width <= wide and low <= height <= high) or end in LEFT_OUT or (library.stem, end) in LEFT_OUT_OF:
        return None
    turn = tuple(float(number) for number in values.get("modelRotation", "").split())
    lift = float(values.get("elevation", 0)) / 100
    if lift and category not in ("bathroom sink",):
        return None
    creator = values.get("creator") or "unknown"
    return Entry(library, model, key, values["name"], category, (depth, width, height), lift, turn, creator, licence)


def fitting(entries: Sequence[Entry], options: Mapping[str, object]) -> list[Entry]:
    """The entries that are what a builder's ``options`` ask for; none where an option asks for what a model cannot vary.

    ``width`` and ``diagonal`` in metres: not wider, and not much narrower; ``seats``: tables that seat as many;
    ``height`` in metres; ``scale`` below one: small enough to stand on furniture.
    """
    found = list(entries)
    for name, value in options.items():
        if name == "look":
            continue
        if name not in ("width", "diagonal", "seats", "height", "scale") or not isinstance(value, int | float):
            return []
        if name == "seats":
            narrow, wide = {2: (0.6, 1.0), 4: (1.0, 1.55), 6: (1.45, 2.05), 8: (1.9, 2.4)}.get(int(value), (0.0, 0.0))
            found = [entry for entry in found if narrow <= entry.size[1] <= wide]
        elif name == "height":
            found = [entry for entry in found if not value or abs(entry.size[2] - value) < 0.1]
        elif name == "scale":
            found = [entry for entry in found if max(entry.size[:2]) < 0.35 and entry.size[2] < 0.45]
        elif value:
            most = float(value) * (0.88 if name == "diagonal" else 1.0) + 0.05
            found = [entry for entry in found if 0.7 * most <= entry.size[1] <= most]
    return found
