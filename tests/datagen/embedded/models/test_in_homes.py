"""Models in homes: by weight, in the same place in every process, with thanks in the manifest, and nothing without them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from datagen.__main__ import compose, register
from datagen.backends import doctor
from datagen.backends.base import BackendUnavailable, SceneError
from datagen.backends.embedded import show
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.house import HouseConfig, make_house
from datagen.backends.embedded.models.shop import open_shop
from datagen.backends.embedded.scene import Scene
from datagen.config import run_config
from datagen.run import generate
from ipt.common.seeding import derived_seed
from tests.datagen.embedded.models.made_library import sofa, table, write_library

LIVING = HouseConfig(max_rooms=1, require_rooms=("living room",), include=("sofa",))
SEEDS = range(6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with sofas and tables."""
    root = tmp_path_factory.mktemp("furniture")
    write_library(root, [sofa(), sofa("sofa2", 160.0), table("four", width=130.0), table("two", width=80.0)])
    return root


def home(folder: Path, seed: int, weight: float, faces: int = 12_000) -> Scene:
    return make_house("home", derived_seed(seed, "models"), LIVING, open_shop(str(folder), weight, faces))


def test_a_model_stands_in_for_ours_by_weight(folder: Path) -> None:
    lent = {weight: [bool(home(folder, seed, weight).credits) for seed in SEEDS] for weight in (0.0, 0.5, 1.0)}
    assert all(lent[1.0]) and not any(lent[0.0]) and any(lent[0.5]) and not all(lent[0.5])
    assert not home(folder, 0, 1.0, faces=20).credits, "heavier models are left out"


def test_the_model_is_an_object_like_any_other(folder: Path) -> None:
    scene = home(folder, 0, 1.0)
    (place,) = (thing for thing in scene.objects if thing.category == "sofa")
    parts = [part for part in scene.parts if part.instance == place.index]
    assert {part.material for part in parts} <= set(scene.materials)
    assert all("Scopia#sofa" in part.material for part in parts)
    assert place.obb is not None and place.obb.half_size[2] * 2 == pytest.approx(0.8, abs=1e-4)
    assert any("Sofa by Sit Maker (CC BY 3.0)" in credit for credit in scene.credits)
    assert scene.licence == "generated, with models under CC0 and CC BY; see credits"


def test_homes_with_models_are_the_same_again_and_the_same_without_them(folder: Path) -> None:
    def corners(scene: Scene) -> np.ndarray:
        return np.concatenate([part.world_vertices() for part in scene.parts])

    assert np.array_equal(corners(home(folder, 3, 0.5)), corners(home(folder, 3, 0.5)))
    ours = make_house("home", derived_seed(3, "models"), LIVING)
    assert ours.credits == () and ours.licence == "generated; no restrictions"


def test_the_backend_opens_the_folder_and_names_the_libraries(folder: Path) -> None:
    config = EmbeddedConfig(renderer="ray", house=LIVING, furniture="sweethome3d", furniture_root=str(folder))
    with EmbeddedBackend(config) as backend:
        assert backend.version.endswith("+Scopia 1.8")
        shown = [bool(backend.load(f"home-train-{index}").credits) for index in (4, 6)]
    assert any(shown)
    heavier = dataclasses.replace(config, furniture_faces=20)
    with EmbeddedBackend(heavier) as backend:
        assert not any(backend.load(f"home-train-{index}").credits for index in (4, 6))
    never = dataclasses.replace(config, furniture_weight=0.0)
    with EmbeddedBackend(never) as backend:
        assert not any(backend.load(f"home-train-{index}").credits for index in (4, 6))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"furniture": "ikea"}, r"backend\.furniture"),
        ({"furniture_weight": 1.5}, r"furniture_weight is a probability, 0 to 1, got 1\.5"),
        ({"furniture_faces": 50_000}, r"furniture_faces must lie in 1\.\.30000, got 50000"),
    ],
)
def test_wrong_settings_are_named(settings: dict, said: str) -> None:
    with pytest.raises(SceneError, match=said):
        EmbeddedConfig(**settings)


def test_a_folder_without_libraries_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"no furniture library \(\*\.sh3f\) in .*nothing"):
        EmbeddedBackend(EmbeddedConfig(furniture="sweethome3d", furniture_root=str(tmp_path / "nothing")))


def test_the_manifest_thanks_the_makers(folder: Path, tmp_path: Path) -> None:
    register()
    settings = ["task=drawing", "backend=embedded", "num_samples=2", "image_size=32", "backend.house.max_rooms=1"]
    settings += ["backend.renderer=ray", "backend.house.require_rooms=[living room]", "task.kinds=[move_turn]"]
    models = ["backend.furniture=sweethome3d", f"backend.furniture_root={folder}", "backend.furniture_weight=1"]

    def manifest(name: str, extra: list[str]) -> dict:
        composed = compose([*settings, *extra, f"output_dir={tmp_path / name}"])
        return generate(run_config(OmegaConf.to_container(composed, resolve=True)), quiet=True)

    lent = manifest("models", models)
    assert any("Sofa by Sit Maker (CC BY 3.0)" in credit for credit in lent["credits"])
    assert any("CC BY" in licence for licence in lent["licences"])
    assert "credits" not in manifest("ours", [])


def test_the_doctor_finds_them(folder: Path) -> None:
    found, missing = doctor.examine_furniture(str(folder)), doctor.examine_furniture(str(folder / "none"))
    assert found.ok and "4 models of 2 categories (Scopia 1.8)" in found.detail
    assert not missing.ok and missing.fix == "apt-get install -y sweethome3d-furniture"


def test_the_contact_sheet_takes_the_same_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(config: EmbeddedConfig) -> EmbeddedBackend:
        assert (config.furniture, config.furniture_root, config.shadows) == ("sweethome3d", str(folder), True)
        raise SceneError("as asked for")

    monkeypatch.setattr(show, "EmbeddedBackend", made)
    with pytest.raises(SceneError, match="as asked for"):
        show.show(show.ShowConfig(furniture="sweethome3d", furniture_root=str(folder), shadows=True))
