"""Free space of embedded scenes: outlines painted together, and computed once for scenes that a run comes back to."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from datagen.backends.embedded import free_space
from datagen.backends.embedded.backend import EmbeddedBackend, EmbeddedConfig
from datagen.backends.embedded.free_space import CHUNK, RESOLUTION, FreeSpace, Measured, clearance_of, paint
from datagen.backends.embedded.scene import Scene
from tests.datagen.embedded.scenes import room_scene


def outlines(count: int, corners: int) -> list[np.ndarray]:
    """Convex outlines, counter-clockwise, some of them beyond the grid of 4 x 3 m."""
    rng = np.random.default_rng(count)
    turns = np.sort(rng.uniform(0, 2 * np.pi, (count, corners)), axis=1)
    radii, centres = rng.uniform(0.05, 0.6, (count, 1, 1)), rng.uniform(-0.3, 4.3, (count, 1, 2))
    return list(centres + radii * np.stack([np.cos(turns), np.sin(turns)], axis=-1))


@pytest.mark.parametrize("margin", [0.0, RESOLUTION / 2])
@pytest.mark.parametrize("chunk", [50, CHUNK])
def test_cells_within_the_margin_of_an_outline_are_painted(
    margin: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(free_space, "CHUNK", chunk)
    shapes = [*outlines(6, 3), *outlines(5, 5), np.array([[1.0, 1.0], [1.5, 1.0], [1.5, 1.0], [1.2, 1.4]])]
    grid, origin = np.zeros((60, 80), bool), np.array([0.0, 0.0])
    paint(grid, origin, shapes, margin, True)
    x, y = np.meshgrid((np.arange(80) + 0.5) * RESOLUTION, (np.arange(60) + 0.5) * RESOLUTION)
    expected = np.zeros_like(grid)
    for shape in shapes:
        inside = np.ones_like(grid)
        for (ax, ay), (bx, by) in zip(shape, np.roll(shape, -1, axis=0), strict=True):
            length = np.hypot(bx - ax, by - ay)
            if length > 0:
                inside &= ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / length >= -margin
        # An acute corner reaches further with its margin; cells that the box around the outline does not touch stay out.
        (x0, y0), (x1, y1) = shape.min(axis=0) - margin, shape.max(axis=0) + margin
        half = RESOLUTION / 2
        expected |= inside & (x > x0 - half) & (x < x1 + half) & (y > y0 - half) & (y < y1 + half)
    assert 100 < expected.sum() < expected.size - 100
    assert (grid == expected).all()


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that from now on receives the id of every scene of which the free space is computed."""
    computed: list[str] = []

    def noting(scene: Scene) -> np.ndarray:
        computed.append(scene.scene_id)
        return clearance_of(scene)

    monkeypatch.setattr(free_space, "clearance_of", noting)
    return computed


def write_room(path: Path, table_at: float) -> None:
    scene = trimesh.Scene()
    for name, size, at in (("floor", (4, 4, 0.1), (0, 0, -0.05)), ("table", (0.8, 0.8, 0.7), (table_at, 0, 0.35))):
        scene.add_geometry(trimesh.creation.box(size).apply_translation(at), node_name=name, geom_name=name)
    scene.export(path)


def test_passes_over_a_folder_compute_the_free_space_of_each_scene_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train").mkdir()
    for name, at in (("one", -1.0), ("two", 1.0)):
        write_room(tmp_path / "train" / f"{name}.glb", at)
    computed = noted(monkeypatch)
    with EmbeddedBackend(EmbeddedConfig(renderer="ray", scene_folder=str(tmp_path), scene_up="z")) as backend:

        def free(name: str) -> np.ndarray:
            backend.load(name)
            return backend.free_map().grid

        first = {name: free(name) for name in ("one", "two")}
        assert computed == ["one", "two"] and (first["one"] != first["two"]).any()
        for name in ("one", "two", "one"):
            assert (free(name) == first[name]).all()
        assert computed == ["one", "two"], "the second pass computes nothing"
        write_room(tmp_path / "train" / "one.glb", 0.0)
        assert (free("one") != first["one"]).any() and computed == ["one", "two", "one"], "a changed file is read anew"
    with EmbeddedBackend(EmbeddedConfig(renderer="ray", scene_folder=str(tmp_path), scene_up="y")) as backend:
        backend.load("two")
        assert backend.free_map().grid.shape != first["two"].shape, "what is up changes the floor"


def test_the_scenes_that_were_met_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = noted(monkeypatch)
    monkeypatch.setattr(free_space, "KEPT", 2)
    measured = Measured()
    for seed in (0, 1, 0, 2, 0, 1):
        FreeSpace(room_scene(seed=seed), measured)
    assert computed == ["room-0", "room-1", "room-2", "room-1"]
