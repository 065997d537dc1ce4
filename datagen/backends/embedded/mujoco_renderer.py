"""Draw scenes with MuJoCo's classic renderer: OpenGL through EGL or OSMesa.

Two passes a frame: antialiased colour, then instance ids and depth together without antialiasing, so that every pixel
holds exactly what its centre ray hits. Under a lamp colour takes three: a shadow map, the fixed lights, the lamp's light
on top. A scene whose template equals the previous one's is re-posed, not recompiled. The GL context is made once per
process and size; the model's meshes and textures are uploaded once per compiled scene. What a camera cannot see is left
out (`culling`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.backends.base import BackendUnavailable, Frame, Layer, Modality, SceneError
from datagen.backends.embedded import culling, lighting
from datagen.backends.embedded.gl import INSTRUCTION, prepare_gl
from datagen.backends.embedded.scene import Material, Part, Scene, yaw_matrix
from ipt.samples.camera import Camera

SAMPLES = 4
GROUP_OF_LAYER: dict[Layer | None, int] = {None: 0, "lintel": 2, "ceiling": 3}
INVISIBLE_GROUP = 5
SHADOW_MAP = 1024  # pixels across; the cone of a lamp 2.3 m up is 1.4 cm to the pixel on the floor
SKY_DISTANCE = 20.0  # metres; MuJoCo's sky box, which gives the background its colour, hides a scene cut off nearer


class MujocoRenderer:
    """Renders one scene at a time; every method must be called from the thread that made the renderer."""

    name = "mujoco"

    def __init__(self) -> None:
        platform = prepare_gl()
        if platform is None:
            raise BackendUnavailable(INSTRUCTION)
        import mujoco  # only now: MUJOCO_GL must be set before

        self._mj = mujoco
        self.version = f"mujoco-{mujoco.__version__}-{platform}"
        self._gl: Any = None
        self._context: Any = None
        self._context_size = (0, 0)
        self._cull = False
        self._lamps: tuple[lighting.Lamp, ...] = ()
        self._template: str | None = None
        self._model: Any = None

    def load(self, scene: Scene) -> None:
        """Compile ``scene``, or re-pose the compiled model if its template is the same."""
        if scene.template is None or scene.template != self._template:
            self._compile(scene)
        self._pose(scene)

    def _compile(self, scene: Scene) -> None:
        self._free_context()
        self._template = None
        spec = build_spec(self._mj, scene)
        try:
            self._model = spec.compile()
        except ValueError as error:
            raise SceneError(f"scene {scene.scene_id}: MuJoCo refuses the model: {error}") from error
        fill_textures(self._mj, self._model, scene)
        self._data = self._mj.MjData(self._model)
        self._mj.mj_kinematics(self._model, self._data)
        self._mj.mj_camlight(self._model, self._data)
        self._mesh_position = self._data.geom_xpos.copy()
        self._mesh_rotation = self._data.geom_xmat.reshape(-1, 3, 3).copy()
        self._scene = self._mj.MjvScene(self._model, maxgeom=len(scene.parts) + 16)
        self._option = self._mj.MjvOption()
        self._camera = self._mj.MjvCamera()
        self._template = scene.template

    def _pose(self, scene: Scene) -> None:
        model, data, parts = self._model, self._data, scene.parts
        rotations = np.stack([yaw_matrix(part.yaw) for part in parts]).astype(np.float64)
        positions = np.array([part.position for part in parts], dtype=np.float64)
        data.geom_xpos[:] = np.einsum("pij,pj->pi", rotations, self._mesh_position) + positions
        data.geom_xmat[:] = (rotations @ self._mesh_rotation).reshape(-1, 9)
        model.geom_rgba[:] = [colour_of(part, scene.materials) for part in parts]
        groups = [GROUP_OF_LAYER[part.layer] if part.visible else INVISIBLE_GROUP for part in parts]
        self._groups = np.array(groups, dtype=np.int32)
        turned = data.geom_xmat.reshape(-1, 3, 3)
        middles = data.geom_xpos + np.einsum("nij,nj->ni", turned, model.geom_aabb[:, :3])
        self._boxes = culling.Boxes(middles, turned.transpose(0, 2, 1) * model.geom_aabb[:, 3:, None])
        self._instance_of_part = np.array([part.instance for part in parts], dtype=np.int32)
        self._cull, self._lamps = scene.closed, scene.lamps

    def _ready(self, width: int, height: int) -> None:
        """Make a context for this model whose buffer holds ``width`` x ``height`` pixels."""
        if self._gl is None:
            self._gl = self._mj.GLContext(64, 64)
        self._gl.make_current()
        if self._context is None:
            # Scenes are drawn at the same sizes one after the other: to begin with the largest saves resizing.
            self._context_size = (max(width, self._context_size[0]), max(height, self._context_size[1]))
            self._model.vis.global_.offwidth, self._model.vis.global_.offheight = self._context_size
            self._context = self._mj.MjrContext(self._model, self._mj.mjtFontScale.mjFONTSCALE_50.value)
            self._context.readDepthMap = self._mj.mjtDepthMap.mjDEPTH_ZEROFAR.value
        elif width > self._context_size[0] or height > self._context_size[1]:
            self._context_size = (max(width, self._context_size[0]), max(height, self._context_size[1]))
            self._mj.mjr_resizeOffscreen(*self._context_size, self._context)
        self._mj.mjr_setBuffer(self._mj.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)

    def render(
        self, cameras: Sequence[Camera], modalities: Collection[Modality], hide: Collection[Layer]
    ) -> list[Frame]:
        """One frame per camera, in order."""
        for layer, group in GROUP_OF_LAYER.items():
            self._option.geomgroup[group] = layer not in hide
        self._option.geomgroup[INVISIBLE_GROUP] = False
        return [self._frame(camera, modalities) for camera in cameras]

    def _show(self, camera: Camera, lamp: lighting.Lamp | None) -> NDArray[np.intp]:
        """Fill MuJoCo's scene with the parts that the picture needs, in their order; their indices."""
        needed = culling.needed(self._boxes, camera, lamp.position if lamp else None)
        self._model.geom_group[:] = np.where(needed, self._groups, INVISIBLE_GROUP)
        self._mj.mjv_updateScene(
            self._model, self._data, self._option, None, self._camera, self._mj.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        shown = np.flatnonzero(np.asarray(self._option.geomgroup)[self._model.geom_group])
        assert self._scene.ngeom == len(shown), "every shown part is one geom of the scene, in order"
        return shown

    def _frame(self, camera: Camera, modalities: Collection[Modality]) -> Frame:
        self._ready(camera.width, camera.height)
        cut = camera.far < SKY_DISTANCE
        rgb = depth = instance = None
        if cut or "depth" in modalities or "instance" in modalities:
            depth, instance = self._measure(camera, "depth" in modalities)
        if "rgb" in modalities:
            rgb = self._picture(replace(camera, far=SKY_DISTANCE) if cut else camera)
            if cut and instance is not None:
                rgb[instance < 0] = np.rint(np.multiply(lighting.BACKGROUND, 255)).astype(np.uint8)
        return Frame(camera, rgb, depth, instance if "instance" in modalities else None)

    def _picture(self, camera: Camera) -> NDArray[np.uint8]:
        """Antialiased colour, (h, w, 3)."""
        rgb = np.empty((camera.height, camera.width, 3), np.uint8)
        self._draw(camera, rgb, None, measuring=False)
        return rgb[::-1].copy()

    def _measure(self, camera: Camera, with_depth: bool) -> tuple[NDArray[np.float32] | None, NDArray[np.int32]]:
        """Planar depth in metres (if wanted) and instance index at the pixel centres, (h, w) each."""
        colours = np.empty((camera.height, camera.width, 3), np.uint8)
        z = np.empty((camera.height, camera.width), np.float32) if with_depth else None
        shown = self._draw(camera, colours, z, measuring=True)
        instance_of_id = np.concatenate([[-1], self._instance_of_part[shown]]).astype(np.int32)
        colours = colours[::-1]
        code = colours[..., 0] + (colours[..., 1].astype(np.int32) << 8) + (colours[..., 2].astype(np.int32) << 16)
        depth = None if z is None else np.where(code > 0, metric_depth(z[::-1], camera), 0).astype(np.float32)
        return depth, instance_of_id[code]

    def _draw(
        self, camera: Camera, rgb: NDArray[np.uint8], z: NDArray[np.float32] | None, *, measuring: bool
    ) -> NDArray[np.intp]:
        """Render into ``rgb`` and ``z``, bottom row first; ``measuring`` draws part ids, one more than the place among the
        returned indices of parts, without antialiasing."""
        lamp = None if measuring else lighting.lamp_of(self._lamps, camera)
        shown = self._show(camera, lamp)
        self._aim(camera)
        self._light(camera, lamp)
        flags, flag = self._scene.flags, self._mj.mjtRndFlag
        flags[flag.mjRND_REFLECTION] = flags[flag.mjRND_HAZE] = 0
        flags[flag.mjRND_SHADOW] = lamp is not None
        flags[flag.mjRND_CULL_FACE] = self._cull
        flags[flag.mjRND_SEGMENT] = flags[flag.mjRND_IDCOLOR] = measuring
        area = self._mj.MjrRect(0, 0, camera.width, camera.height)
        self._mj.mjr_render(area, self._scene, self._context)
        self._mj.mjr_readPixels(rgb, z, area, self._context)
        return shown

    def _aim(self, camera: Camera) -> None:
        matrix = camera.pose.camera_to_world
        scale = camera.near if camera.ortho_height_m is None else 1.0
        half = camera.half_height * scale
        for view in self._scene.camera:
            view.pos, view.forward, view.up = matrix[:3, 3], -matrix[:3, 2], matrix[:3, 1]
            view.orthographic = int(camera.ortho_height_m is not None)
            view.frustum_center, view.frustum_width = 0.0, half * camera.width / camera.height
            view.frustum_bottom, view.frustum_top = -half, half
            view.frustum_near, view.frustum_far = camera.near, camera.far

    def _light(self, camera: Camera, lamp: lighting.Lamp | None) -> None:
        """Turn the headlight along the camera's view, light the room's lamp and dim the fixed lights under it."""
        matrix = camera.pose.camera_to_world
        ambient, share = (lighting.DIMMED_AMBIENT, lighting.DIMMED_LIGHTS) if lamp else (1.0, 1.0)
        fixed = iter(lighting.LIGHTS)
        for light in self._scene.lights[: self._scene.nlight]:
            if light.headlight:
                light.pos, light.dir = matrix[:3, 3], -matrix[:3, 2]
                light.ambient, light.diffuse = [lighting.AMBIENT * ambient] * 3, [lighting.HEADLIGHT * share] * 3
            elif light.type == self._mj.mjtLightType.mjLIGHT_SPOT.value:
                light.castshadow = lamp is not None
                light.diffuse = [lighting.LAMP if lamp else 0.0] * 3
                if lamp:
                    light.pos = lamp.position
            else:
                light.diffuse = [next(fixed).diffuse * share] * 3

    def _free_context(self) -> None:
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._context = None

    def close(self) -> None:
        """Free the GL context and the model; :meth:`load` may be called again."""
        self._free_context()
        if self._gl is not None:
            self._gl.free()
            self._gl = None
        self._template = self._model = None


def metric_depth(z: NDArray[np.float32], camera: Camera) -> NDArray[np.float64]:
    """Planar depth in metres from a reversed depth buffer (1 at the near plane, 0 at the far plane)."""
    near, far, z64 = camera.near, camera.far, z.astype(np.float64)
    if camera.ortho_height_m is not None:
        return far - z64 * (far - near)
    return near * far / (near + z64 * (far - near))


def colour_of(part: Part, materials: dict[str, Material]) -> tuple[float, float, float, float]:
    """RGBA of a part: its material's colour times its tint."""
    red, green, blue = (base * tint for base, tint in zip(materials[part.material].rgb, part.tint, strict=True))
    if red == green == blue == 0.5:
        blue += 1e-4  # MuJoCo takes exactly this grey for "not set" and draws white
    return red, green, blue, 1.0


def build_spec(mujoco: Any, scene: Scene) -> Any:
    """The scene as a MuJoCo model specification: one mesh geom per part in the world body, nothing that collides."""
    spec = mujoco.MjSpec()
    spec.visual.quality.offsamples = SAMPLES
    spec.visual.quality.shadowsize = SHADOW_MAP if scene.lamps else 0
    spec.visual.map.shadowscale = 1.0  # the shadow map covers the lamp's whole cone
    spec.visual.headlight.ambient = [lighting.AMBIENT] * 3
    spec.visual.headlight.diffuse = [lighting.HEADLIGHT] * 3
    spec.visual.headlight.specular = [0.0] * 3
    spec.add_texture(
        name="background", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=lighting.BACKGROUND, rgb2=lighting.BACKGROUND, width=8, height=48,
    )  # fmt: skip
    for light in lighting.LIGHTS:
        spec.worldbody.add_light(
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, dir=light.direction, castshadow=False,
            ambient=[0.0] * 3, diffuse=[light.diffuse] * 3, specular=[0.0] * 3,
        )  # fmt: skip
    if scene.lamps:  # one light stands for all: it is moved to the lamp of the camera's room
        spec.worldbody.add_light(
            type=mujoco.mjtLightType.mjLIGHT_SPOT, pos=scene.lamps[0].position, dir=(0, 0, -1), castshadow=True,
            cutoff=lighting.LAMP_CUTOFF_DEG, exponent=1.0, attenuation=(1, 0, 0),
            ambient=[0.0] * 3, diffuse=[lighting.LAMP] * 3, specular=[0.0] * 3,
        )  # fmt: skip
    used = {part.material for part in scene.parts}
    for name in sorted(used):
        add_material(mujoco, spec, scene.materials[name])
    names: dict[int, str] = {}
    for part in scene.parts:
        if id(part.mesh) not in names:
            names[id(part.mesh)] = name = f"mesh{len(names)}"
            mesh = part.mesh
            spec.add_mesh(
                name=name, inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
                uservert=mesh.vertices.ravel(), usernormal=mesh.normals.ravel(),
                usertexcoord=np.column_stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]]).ravel(), userface=mesh.faces.ravel(),
            )  # fmt: skip
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH, meshname=names[id(part.mesh)], material=part.material,
            contype=0, conaffinity=0, group=GROUP_OF_LAYER[part.layer],
        )  # fmt: skip
    return spec


def fill_textures(mujoco: Any, model: Any, scene: Scene) -> None:
    """Copy the pictures into the compiled model: the specification takes them only as sequences of Python integers."""
    for index in range(model.ntex):
        name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_TEXTURE.value, index)
        if name in scene.materials:
            texture = scene.materials[name].texture
            assert texture is not None
            start = model.tex_adr[index]
            model.tex_data[start : start + texture.size] = texture.ravel()


def add_material(mujoco: Any, spec: Any, material: Material) -> None:
    """File a material and its texture; colour is set per geom, because a tint varies with the part."""
    layers = None
    if material.texture is not None:
        height, width, _ = material.texture.shape
        spec.add_texture(
            name=material.name, type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
            nchannel=3, width=width, height=height,
        )  # fmt: skip
        layers = [""] * int(mujoco.mjtTextureRole.mjNTEXROLE)
        layers[mujoco.mjtTextureRole.mjTEXROLE_RGB] = material.name
    spec.add_material(
        name=material.name, emission=material.emission, specular=material.specular, shininess=0.3, reflectance=0.0,
        **({"textures": layers} if layers else {}),
    )  # fmt: skip
