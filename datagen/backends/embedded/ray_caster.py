"""Draw scenes by casting rays through Embree: no OpenGL needed, and an independent oracle for depth and instance ids.

Same triangles, textures, light and camera as the MuJoCo renderer. Colour is shaded in numpy as OpenGL's fixed pipeline
would: lit at the vertices, textured with trilinear filtering; a ray to the lamp decides who stands in its shadow. Only
pixels on an edge, of things or of shadows, are supersampled.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import BackendUnavailable, Frame, Layer, Modality
from datagen.backends.embedded import lighting
from datagen.backends.embedded.scene import Material, Scene
from ipt.samples.camera import Camera

Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]

SHADOW_BIAS = np.float32(0.01)  # metres
SUBPIXELS = np.array([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]])


class RayRenderer:
    """Renders one scene at a time on the CPU, deterministically."""

    name = "ray"

    def __init__(self) -> None:
        try:
            from embreex import mesh_construction, rtcore_scene
        except ImportError:
            raise BackendUnavailable("the ray caster needs the package embreex: pip install embreex") from None
        from importlib.metadata import version

        self._embree_scene = rtcore_scene.EmbreeScene
        self._triangle_mesh = mesh_construction.TriangleMesh
        self.version = f"embreex-{version('embreex')}"
        self._soup: Soup | None = None
        self._trees: dict[frozenset[Layer], tuple[Any, Ints]] = {}

    def load(self, scene: Scene) -> None:
        """Collect the triangles of ``scene``; trees are built when first needed."""
        self._soup = Soup(scene)
        self._trees = {}

    def _tree(self, hide: frozenset[Layer]) -> tuple[Any, Ints]:
        """The ray tree without the hidden layers, and the triangle index of each of its primitives."""
        if hide not in self._trees:
            assert self._soup is not None, "load a scene first"
            kept = self._soup.faces_without(hide)
            tree = self._embree_scene()
            self._triangle_mesh(tree, self._soup.vertices[self._soup.faces[kept]])
            self._trees[hide] = (tree, kept)
        return self._trees[hide]

    def render(
        self, cameras: Sequence[Camera], modalities: Collection[Modality], hide: Collection[Layer]
    ) -> list[Frame]:
        """One frame per camera, in order."""
        return [self._frame(camera, modalities, frozenset(hide)) for camera in cameras]

    def _cast(self, camera: Camera, pixels: NDArray[np.float64], hide: frozenset[Layer]) -> Hits:
        """What the rays through ``pixels`` (n, 2) hit between the near and far planes."""
        tree, kept = self._tree(hide)
        near_points = camera.unproject(pixels, np.full(len(pixels), camera.near))
        directions = camera.unproject(pixels, np.full(len(pixels), camera.near + 1.0)) - near_points
        found = tree.run(near_points.astype(np.float32), directions.astype(np.float32), output=True)
        depth = found["tfar"].astype(np.float64) + camera.near
        face = np.where((found["primID"] >= 0) & (depth <= camera.far), kept[found["primID"]], -1)
        return Hits(face, depth, np.stack([1 - found["u"] - found["v"], found["u"], found["v"]], axis=1))

    def _lit(self, hits: Hits, lamp: lighting.Lamp | None, hide: frozenset[Layer]) -> NDArray[np.bool_]:
        """Whether nothing stands between each hit and the lamp, (n,); False without a lamp."""
        assert self._soup is not None, "load a scene first"
        lit = np.zeros(len(hits.face), bool)
        rows = np.flatnonzero(hits.face >= 0)
        if lamp is None or not len(rows):
            return lit
        tree, _ = self._tree(hide)
        points = self._soup.points(hits, rows)
        towards = np.asarray(lamp.position, np.float32) - points
        lengths = np.linalg.norm(towards, axis=1, keepdims=True)
        towards /= np.maximum(lengths, 1e-6)
        # Distances along rays of unit length; from just off the surface, so that it does not shade itself.
        reach = tree.run(points + SHADOW_BIAS * towards, towards, query="DISTANCE")
        lit[rows] = reach > lengths[:, 0] - 2 * SHADOW_BIAS
        return lit

    def _frame(self, camera: Camera, modalities: Collection[Modality], hide: frozenset[Layer]) -> Frame:
        assert self._soup is not None, "load a scene first"
        shape = (camera.height, camera.width)
        columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
        pixels = np.stack([columns, rows], axis=-1).reshape(-1, 2)
        hits = self._cast(camera, pixels, hide)
        rgb = depth = instance = None
        if "depth" in modalities:
            depth = np.where(hits.face >= 0, hits.depth, 0).astype(np.float32).reshape(shape)
        if "instance" in modalities:
            instance = np.where(hits.face >= 0, self._soup.instance[hits.face], -1).astype(np.int32).reshape(shape)
        if "rgb" in modalities:
            lamp = lighting.lamp_of(self._soup.lamps, camera)
            lit = self._lit(hits, lamp, hide)
            colour = self._soup.shade(hits, camera, lamp, lit)
            edge = edges((2 * self._soup.surface_key(hits.face) + lit).reshape(shape)).ravel()
            if edge.any():
                sub = (pixels[edge][:, None, :] + SUBPIXELS).reshape(-1, 2)
                finer = self._cast(camera, sub, hide)
                fine = self._soup.shade(finer, camera, lamp, self._lit(finer, lamp, hide))
                colour[edge] = fine.reshape(-1, len(SUBPIXELS), 3).mean(axis=1)
            rgb = np.rint(colour * 255).astype(np.uint8).reshape(*shape, 3)
        return Frame(camera, rgb, depth, instance)

    def close(self) -> None:
        """Forget the scene."""
        self._soup, self._trees = None, {}


class Hits:
    """Ray hits: triangle index (n,) or -1, planar depth (n,) in metres, barycentric weights (n, 3)."""

    def __init__(self, face: Ints, depth: NDArray[np.float64], weights: Floats32) -> None:
        self.face, self.depth, self.weights = face, depth, weights


class Soup:
    """All triangles of a scene in one set of arrays, and their shading."""

    def __init__(self, scene: Scene) -> None:
        parts = [part for part in scene.parts if part.visible]
        counts = [len(part.mesh.faces) for part in parts]
        offsets = np.cumsum([0] + [len(part.mesh.vertices) for part in parts[:-1]])
        self.vertices = np.concatenate([part.world_vertices() for part in parts])
        self.normals = np.concatenate([part.world_normals() for part in parts])
        self.uv = np.concatenate([part.mesh.uv for part in parts])
        self.faces = np.concatenate([part.mesh.faces + offset for part, offset in zip(parts, offsets, strict=True)])
        self.part = np.repeat(np.arange(len(parts)), counts)
        self.instance = np.array([part.instance for part in parts], np.int32)[self.part]
        names = sorted({part.material for part in parts})
        self.materials = [Pyramid(scene.materials[name]) for name in names]
        self.material = np.array([names.index(part.material) for part in parts])[self.part]
        self.lamps = scene.lamps
        self._layers = [part.layer for part in parts]
        base = [np.multiply(scene.materials[part.material].rgb, part.tint) for part in parts]
        self.rgb = np.array(base, np.float32)[self.part]
        self.colours: Floats32 | None = None
        if any(part.mesh.colours is not None for part in parts):
            painted = (part.mesh.colours for part in parts)
            self.colours = np.concatenate(
                [
                    np.ones_like(part.mesh.vertices) if colours is None else colours
                    for part, colours in zip(parts, painted, strict=True)
                ]
            )
        self.density = self._texel_density()
        self._plane = self._plane_ids()

    def faces_without(self, hide: frozenset[Layer]) -> Ints:
        """Indices of the triangles whose layer is not hidden."""
        return np.flatnonzero(np.array([layer not in hide for layer in self._layers])[self.part])

    def _texel_density(self) -> Floats32:
        """Texels per metre on each triangle, (f,)."""
        corners, uv = self.vertices[self.faces].astype(np.float64), self.uv[self.faces].astype(np.float64)
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        first, second = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
        uv_area = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
        texels = np.array([material.texels for material in self.materials], np.float64)[self.material]
        return np.sqrt(uv_area * texels / np.maximum(area, 1e-12)).astype(np.float32)

    def _plane_ids(self) -> Ints:
        """Triangles of one part that face the same way share an id; others do not."""
        normals = self.normals[self.faces].mean(axis=1)
        keys = np.column_stack([self.part, np.rint(normals * 4)]).astype(np.int64)
        return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)

    def surface_key(self, face: Ints) -> Ints:
        """An id that changes where a visible edge may lie, (n,)."""
        return np.where(face >= 0, self._plane[face], -1)

    def points(self, hits: Hits, rows: Ints) -> Floats32:
        """Where the hits in ``rows`` lie in the world, (len(rows), 3)."""
        corners = self.vertices[self.faces[hits.face[rows]]]
        return np.einsum("nk,nkc->nc", hits.weights[rows].astype(np.float32), corners)

    def shade(self, hits: Hits, camera: Camera, lamp: lighting.Lamp | None, reached: NDArray[np.bool_]) -> Floats32:
        """Colour of each hit, (n, 3) in 0..1; the lamp's light is seen where it ``reached`` (n,) the surface."""
        colour = np.broadcast_to(np.asarray(lighting.BACKGROUND, np.float32), (len(hits.face), 3)).copy()
        light = lighting.irradiance(self.normals, camera.pose.forward, dimmed=lamp is not None)
        valid = np.flatnonzero(hits.face >= 0)
        face, weights = hits.face[valid], hits.weights[valid].astype(np.float32)
        corners = self.faces[face]
        emission = np.array([material.emission for material in self.materials], np.float32)[self.material[face]]
        lit = self.rgb[face][:, None, :] * (light[corners] + emission[:, None])[:, :, None]
        lit = np.einsum("nk,nkc->nc", weights, np.minimum(lit, 1))
        if lamp is not None:
            lamplight = lamp.irradiance(self.vertices, self.normals)[corners]
            fallen = np.minimum(self.rgb[face][:, None, :] * lamplight[:, :, None], 1)
            lit += reached[valid, None] * np.einsum("nk,nkc->nc", weights, fallen)
        uv = np.einsum("nk,nkc->nc", weights, self.uv[corners])
        footprint = camera.metres_per_pixel * (hits.depth[valid] if camera.ortho_height_m is None else 1.0)
        level = np.log2(np.maximum(footprint * self.density[face], 1e-6)).astype(np.float32)
        which = self.material[face]
        for index in np.unique(which):
            rows = which == index
            lit[rows] *= self.materials[index].sample(uv[rows], level[rows])
        if self.colours is not None:
            lit *= np.einsum("nk,nkc->nc", weights, self.colours[corners])
        colour[valid] = np.clip(lit, 0, 1)
        return colour


class Pyramid:
    """A material's texture with its mipmaps."""

    def __init__(self, material: Material) -> None:
        self.emission = material.emission
        self.levels: list[Floats32] = []
        if material.texture is not None:
            image: Floats32 = np.divide(material.texture, 255, dtype=np.float32)
            while True:
                self.levels.append(image)
                if min(image.shape[:2]) < 2:
                    break
                image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
                image = (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / np.float32(4)

    @property
    def texels(self) -> int:
        return self.levels[0].shape[0] * self.levels[0].shape[1] if self.levels else 0

    def sample(self, uv: Floats32, level: Floats32) -> Floats32:
        """Texture colour at ``uv`` (n, 2) with mip ``level`` (n,) (0 = finest), trilinear, repeating, (n, 3)."""
        if not self.levels:
            return np.ones((len(uv), 3), np.float32)
        clamped = np.clip(level, 0, len(self.levels) - 1)
        low = np.floor(clamped).astype(int)
        blend = (clamped - low)[:, None]
        result = np.zeros((len(uv), 3), np.float32)
        for index in np.unique(np.concatenate([low, np.minimum(low + 1, len(self.levels) - 1)])):
            weight = np.where((low == index)[:, None], 1 - blend, 0)
            weight = weight + np.where((np.minimum(low + 1, len(self.levels) - 1) == index)[:, None], blend, 0)
            rows = np.flatnonzero(weight[:, 0] > 0)
            result[rows] += weight[rows] * bilinear(self.levels[index], uv[rows])
        return result


def bilinear(image: Floats32, uv: Floats32) -> Floats32:
    """Repeating bilinear lookup; v = 0 is the bottom row of the picture."""
    height, width, _ = image.shape
    x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    x0, x1, y0, y1 = left % width, (left + 1) % width, top % height, (top + 1) % height
    upper = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    lower = image[y1, x0] * (1 - fx) + image[y1, x1] * fx
    return (upper * (1 - fy) + lower * fy).astype(np.float32)


def edges(key: Ints) -> NDArray[np.bool_]:
    """Pixels whose key differs from a neighbour's, both sides of the edge, (h, w)."""
    edge = np.zeros(key.shape, bool)
    across, down = key[:, 1:] != key[:, :-1], key[1:] != key[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge
