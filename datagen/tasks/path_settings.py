"""Settings of Path Tracing."""

from __future__ import annotations

from dataclasses import dataclass, field

from datagen.annotate import ARROW_SHARE
from datagen.tasks.base import TaskConfig, ViewFilter
from ipt.common.errors import UserError
from ipt.common.registry import unknown_name

#: The published input variants: from above or a dollhouse view, with the midpoint or the path, with an arrow to the
#: queried side, with first-person views ahead or to the side at both waypoints.
VARIANTS = (
    "dh_midpoint", "td_midpoint", "td_path", "td_path_arrow",
    "td_ego_dir", "td_ego_dir_arrow", "td_ego_side", "td_ego_side_arrow",
)  # fmt: skip
OPTIONS = 4
OPTION_SOURCES = ("same_scene", "any_scene")


@dataclass(frozen=True, slots=True)
class PathTracingConfig(TaskConfig):
    """Procedure of the paper: distance bins in metres, camera height, field of view and pitch drawn per sample.

    ``variants``: which inputs to make, drawn per sample (see ``VARIANTS``); the paper trains on ``td_ego_dir``.
    ``options``: whether distractors are nouns that the map shows (``same_scene``), or of all scenes (``any_scene``, for scenes of
    few things). ``min_opposite``: how many of the three stand on the opposite side of M1, at least (the paper draws them from
    there first; ``any_scene`` only prefers them). ``answers_per_view``: of how many things in a side view the balance of
    options may choose the one that is asked for (``same_scene``; counterfactuals are rendered for each). ``bearing_deg``: of
    the object asked for and of those opposite, off the traveller's heading: neither ahead nor behind. ``offset_half_m``: how
    far from M1 a place for the side view is worth half as much.
    ``most_per_bin``: questions per scene and distance bin; long walks are rare, for they need large homes.
    ``min_map_area_m2``: of the object asked for, seen from above: a curtain cannot be found on a map.
    ``min_map_width_m``: of the narrower side of its footprint: of a mirror on a wall, a map shows a line.
    ``min_coverage``: of the side view by the object asked for. ``map_margin_m``: around the path on the map.
    ``min_mark_visible``: of the path, of arrows and of their heads, in the map or dollhouse view. ``min_arrow_share``: length of
    an arrow, of the map's width.
    """

    name: str = "pt"
    samples_per_scene: int = 12
    variants: tuple[str, ...] = ("td_ego_dir",)
    options: str = "same_scene"
    min_opposite: int = 2
    answers_per_view: int = 6
    bearing_deg: tuple[float, float] = (30.0, 120.0)
    walks_per_bin: int = 16
    most_per_bin: tuple[int, int, int] = (3, 3, 8)
    view: ViewFilter = field(default_factory=lambda: ViewFilter(min_median_depth_m=0.8))
    distance_bins_m: tuple[float, float, float] = (1.0, 2.0, 4.0)
    heights_m: tuple[float, ...] = (1.4, 1.467, 1.533, 1.6, 1.667, 1.733, 1.8)
    fov_deg: tuple[float, float] = (75.0, 120.0)
    pitch_deg: tuple[float, float] = (-5.0, 5.0)
    sweep_yaw_deg: tuple[float, ...] = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0)
    sweep_offset_m: tuple[float, ...] = (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6)
    sweep_pitch_deg: tuple[float, ...] = (-20.0, -10.0, 0.0)
    offset_half_m: float = 0.3
    min_scan_area: float = 0.004
    min_map_area_m2: float = 0.02
    min_map_width_m: float = 0.12
    min_coverage: float = 0.0015
    min_ego_depth_m: float = 0.6
    map_margin_m: float = 3.0
    min_mark_visible: float = 0.9
    min_arrow_share: float = ARROW_SHARE

    def __post_init__(self) -> None:
        for variant in self.variants:
            if variant not in VARIANTS:
                raise UserError(unknown_name("variant", variant, VARIANTS))
        if not self.variants:
            raise UserError(f"task.variants must name at least one of {', '.join(VARIANTS)}")
        if self.options not in OPTION_SOURCES:
            raise UserError(unknown_name("source of options", self.options, OPTION_SOURCES))
        if not 0 <= self.min_opposite < OPTIONS:
            raise UserError(f"task.min_opposite must lie in 0..{OPTIONS - 1}, got {self.min_opposite}")
        if self.answers_per_view < 1:
            raise UserError(f"task.answers_per_view must be at least 1, got {self.answers_per_view}")
        low, high = self.bearing_deg
        if not 0 < low < high < 180:
            raise UserError(f"task.bearing_deg must be two angles in 0..180, the smaller first, got {low}, {high}")
        for name in ("vertical_fov_deg", "eye_height_range_m", "fov_range_deg", "pitch_range_deg"):
            if getattr(self, name) != TaskConfig.__dataclass_fields__[name].default:
                raise UserError(
                    f"task.{name} has no effect on Path Tracing: its cameras are of task.heights_m, fov_deg and pitch_deg"
                )
        if self.offset_half_m <= 0:
            raise UserError(f"task.offset_half_m must be positive, got {self.offset_half_m}")
