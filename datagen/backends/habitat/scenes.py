"""Where scenes of a data set lie on disk, and which split each belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datagen.backends.base import SceneError
from datagen.backends.splits import SHARES, fraction
from ipt.common.files import opened_text, read_json
from ipt.common.registry import unknown_name
from ipt.samples.sample import SPLITS

#: Where it has train and val only, val is dealt into our val and test.
HALVES = {"val": (0.0, 0.5), "test": (0.5, 1.0)}


@dataclass(frozen=True, slots=True)
class Layout:
    """``pattern`` finds scene files under the data folder; ``config`` is the scene dataset config, "default" if none.

    ``named``: habitat-sim is given the scene's name, which the config resolves, instead of a file.
    ``instances``: "semantic" where each annotated object has an id of its own, "objects" where scenes are composed of
    separate rigid objects, whose semantic ids are only classes, named in ``lexicon``. ``download`` gets the data set.
    """

    pattern: str
    config: str
    licence: str
    download: str
    named: bool = False
    instances: str = "semantic"
    lexicon: str | None = None


LAYOUTS: dict[str, Layout] = {
    "hm3d": Layout(
        "**/*.semantic.glb",
        "hm3d_annotated_basis.scene_dataset_config.json",
        "HM3D: Matterport academic terms of use",
        "python -m habitat_sim.utils.datasets_download --username TOKEN_ID --password TOKEN_SECRET "
        "--uids hm3d_minival_v0.2 --data-path data (token: my.matterport.com/settings/account/devtools)",
    ),
    "mp3d": Layout(
        "**/*.house",
        "mp3d.scene_dataset_config.json",
        "Matterport3D: terms of use, non-commercial",
        "python download_mp.py --task habitat -o data/mp3d (script: niessner.github.io/Matterport), and beside it "
        "dl.fbaipublicfiles.com/habitat/mp3d/config_v1/mp3d.scene_dataset_config.json",
    ),
    "replica_cad": Layout(
        "configs/scenes/*.scene_instance.json",
        "replicaCAD.scene_dataset_config.json",
        "ReplicaCAD: CC BY 4.0",
        "git lfs install && git clone https://huggingface.co/datasets/ai-habitat/ReplicaCAD_dataset data/replica_cad",
        named=True,
        instances="objects",
        lexicon="configs/ssd/replicaCAD_semantic_lexicon.json",
    ),
    "hssd": Layout(
        "scenes/*.scene_instance.json",
        "hssd-hab.scene_dataset_config.json",
        "HSSD: CC BY-NC 4.0",
        "git lfs install && git clone https://huggingface.co/datasets/hssd/hssd-hab data/hssd (accept its terms first)",
        named=True,
        instances="objects",
        lexicon="semantics/hssd-hab_semantic_lexicon.json",
    ),
    "files": Layout("**/*.glb", "default", "as the scene's author says", "put GLB files into the folder"),
}
#: Folders of a data set's own splits. HM3D's minival repeats scenes of val.
FOLDERS = {"train": "train", "val": "val", "minival": "val", "test": "test"}


@dataclass(frozen=True, slots=True)
class SceneFile:
    """A scene: our id, what habitat-sim is asked to open, and the folder of the data set's own split, if it has one."""

    id: str
    handle: str
    folder: str


def find_scenes(data: Path, layout: Layout) -> dict[str, SceneFile]:
    """Scenes under ``data`` by id, sorted; an empty or missing folder is a ``SceneError``."""
    if not data.is_dir():
        raise SceneError(f"the data folder {data} does not exist; set backend.data to where the scenes lie")
    found: dict[str, SceneFile] = {}
    for path in sorted(data.glob(layout.pattern)):
        scene_id = path.name.split(".")[0]
        handle = scene_id if layout.named else str(scene_mesh(path))
        folder = next((FOLDERS[part] for part in path.relative_to(data).parts[:-1] if part in FOLDERS), "")
        known = found.get(scene_id)
        if known is not None and known.handle != handle and (known.folder != folder or not folder):
            raise SceneError(f"two scenes are called '{scene_id}': {found[scene_id].handle} and {handle}")
        found.setdefault(scene_id, SceneFile(scene_id, handle, folder))
    if not found:
        raise SceneError(f"no file under {data} matches {layout.pattern}; check backend.dataset and backend.data")
    return found


def scene_mesh(path: Path) -> Path:
    """The mesh that is drawn, beside the file that marks an annotated scene."""
    stem = path.name.split(".")[0]
    for suffix in (".basis.glb", ".glb"):
        if (mesh := path.with_name(stem + suffix)).is_file():
            return mesh
    raise SceneError(f"{path} has no {stem}.glb or {stem}.basis.glb beside it; the download is incomplete")


def class_names(data: Path, layout: Layout) -> dict[int, str]:
    """Names of the semantic classes of a data set that lists them in a lexicon."""
    path = data / layout.lexicon if layout.lexicon else None
    if path is None or not path.is_file():
        return {}
    try:
        return {int(entry["id"]): str(entry["name"]) for entry in read_json(path)["classes"]}
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError(
            f"{path} is no semantic lexicon ({error!r}); it should hold classes with id and name"
        ) from None


def split_scenes(scenes: dict[str, SceneFile], split: str, lists: Path | None) -> list[str]:
    """Ids of a split: from ``lists/SPLIT.txt`` if given, else the data set's own split, else dealt by hash."""
    if split not in SPLITS:
        raise SceneError(unknown_name("split", split, SPLITS))
    if lists is not None:
        listed = {name: listed_scenes(scenes, lists / f"{name}.txt") for name in SPLITS}
        for other in SPLITS:
            if other != split and (shared := set(listed[split]) & set(listed[other])):
                raise SceneError(f"{lists}: {split}.txt and {other}.txt share {', '.join(sorted(shared)[:5])}")
        return listed[split]
    folders = {scene.folder for scene in scenes.values()}
    chosen = []
    for scene in scenes.values():
        if scene.folder == "val" and "test" not in folders:
            low, high = HALVES.get(split, (0.0, 0.0))
        elif scene.folder:
            low, high = (0.0, 1.0) if scene.folder == split else (0.0, 0.0)
        else:
            low, high = SHARES[split]
        if low <= fraction(scene.id) < high:
            chosen.append(scene.id)
    return chosen


def listed_scenes(scenes: dict[str, SceneFile], path: Path) -> list[str]:
    """Ids in a text file, one a line; ``#`` starts a comment."""
    if not path.is_file():
        raise SceneError(f"{path} does not exist; a scene list has one scene id a line")
    with opened_text(path) as stream:
        ids = [line.partition("#")[0].strip() for line in stream]
    for number, scene_id in enumerate(ids, 1):
        if scene_id and scene_id not in scenes:
            raise SceneError(f"{path}:{number}: {unknown_name('scene', scene_id, list(scenes))[:300]}")
    return [scene_id for scene_id in ids if scene_id]
