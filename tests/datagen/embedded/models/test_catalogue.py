"""Libraries of Sweet Home 3D: what is read from a catalogue, what becomes of it, and what is left out and why."""

from pathlib import Path

import pytest

from datagen.backends.base import BackendUnavailable, SceneError
from datagen.backends.embedded.furniture import FURNITURE
from datagen.backends.embedded.models import catalogue
from datagen.backends.embedded.models.catalogue import (
    CATEGORIES,
    SIZES,
    categories_of,
    fitting,
    licence_of,
    read_catalogue,
)
from tests.datagen.embedded.models.made_library import Model, sofa, table, write_library


def test_an_entry_has_its_category_size_creator_and_licence(tmp_path: Path) -> None:
    write_library(tmp_path, [table(), sofa()])
    write_library(tmp_path, [sofa("sofa9")], "BlendSwap-CC-0", "Public domain")
    found = read_catalogue(str(tmp_path))
    assert found.versions == ("BlendSwap-CC-0 1.8", "Scopia 1.8") and found.count == 3
    (dining,) = found.entries["dining table"]
    assert dining.size == (0.8, 1.5, 0.75) and dining.model == "scopia/table1/table1.obj"
    free, named = found.entries["sofa"]
    assert (free.licence, named.licence) == ("CC0 1.0", "CC BY 3.0")
    assert named.credit == "Sofa by Sit Maker (CC BY 3.0), Scopia#sofa1, from Sweet Home 3D's library Scopia"


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (table(width=300.0), "too wide for a table of ours"),
        (table(name="Fire hydrant"), "no name we know"),
        (table("cupboard", "Cupboard"), "left out by a list"),
        (Model("sofa2", "Sofa", (200, 80, 80), [], extra={"elevation": "60"}), "hangs above the floor"),
        (Model("sofa3", "Sofa", (200, 80, 80), [], extra={"width": "wide"}), "a size that is no number"),
    ],
)
def test_what_is_left_out(tmp_path: Path, model: Model, why: str) -> None:
    write_library(tmp_path, [model, sofa()])
    assert list(read_catalogue(str(tmp_path)).entries) == ["sofa"], why
    assert read_catalogue(str(tmp_path)).count == 1


def test_other_licences_are_not_taken(tmp_path: Path) -> None:
    write_library(tmp_path, [sofa()])
    write_library(tmp_path, [sofa()], "Other", "Free for personal use")
    found = read_catalogue(str(tmp_path))
    assert found.versions == ("Scopia 1.8",) and [entry.library.stem for entry in found.entries["sofa"]] == ["Scopia"]
    assert licence_of("Creative Commons Attribution-NonCommercial") is None


def test_every_name_means_a_category_that_we_have_and_know_the_size_of() -> None:
    assert set(CATEGORIES) == set(SIZES) and set(CATEGORIES) <= set(FURNITURE)
    assert all(reason for reason in (*catalogue.LEFT_OUT.values(), *catalogue.LEFT_OUT_OF.values()))
    assert categories_of("Chair", "Kator Legaz#office-chair") == ["office chair"], "the id says more than the name"


def test_without_libraries_the_error_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "INSTALLED", tmp_path / "none")
    with pytest.raises(
        BackendUnavailable, match=r"apt-get install -y sweethome3d-furniture, or backend\.furniture_root"
    ):
        read_catalogue()
    (tmp_path / "broken.sh3f").write_bytes(b"not a zip")
    with pytest.raises(SceneError, match=r"broken\.sh3f is not a furniture library"):
        read_catalogue(str(tmp_path))


def test_options_of_builders_are_respected(tmp_path: Path) -> None:
    write_library(
        tmp_path, [table("narrow", width=90.0), table("long", width=180.0), sofa("s", 150.0), sofa("l", 220.0)]
    )
    entries = read_catalogue(str(tmp_path)).entries
    tables, sofas = entries["dining table"], entries["sofa"]

    def keys(found: list) -> list[str]:
        return [entry.key.split("#")[1] for entry in found]

    assert keys(fitting(tables, {"seats": 2})) == ["narrow"] and keys(fitting(tables, {"seats": 6})) == ["long"]
    assert keys(fitting(sofas, {"width": 1.55})) == ["s"] and keys(fitting(sofas, {"width": 0.0})) == ["s", "l"]
    assert keys(fitting(sofas, {"diagonal": 1.7})) == ["s"] and fitting(sofas, {"lying": True}) == []
    assert fitting(tables, {"scale": 0.4}) == [] and keys(fitting(tables, {"height": 0.74})) == ["narrow", "long"]
    assert fitting(tables, {"height": 0.5}) == [] and keys(fitting(tables, {"look": None})) == ["narrow", "long"]
