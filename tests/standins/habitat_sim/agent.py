"""Agents and their states: w, x, y, z in quaternions, x, y, z, w in lists."""

from __future__ import annotations

from typing import Any

import numpy as np
from habitat_sim.settings import AgentConfiguration as AgentConfiguration
from habitat_sim.values import quaternion, refuse, rotation_matrix


class AgentState:
    def __init__(self, position: Any = None, rotation: Any = None) -> None:
        self.position = np.zeros(3) if position is None else position
        self.rotation = quaternion(1, 0, 0, 0) if rotation is None else rotation

    def check(self) -> None:
        """What Agent.set_state refuses."""
        self.position = np.asarray(self.position, float)
        if not np.isfinite(self.position).all():
            raise ValueError(f"{self.position} contains non-finite values which are forbidden in the Attribute")
        if not isinstance(self.rotation, quaternion):
            x, y, z, w = (float(value) for value in self.rotation)
            self.rotation = quaternion(w, x, y, z)
        square = float(np.sum(np.square(self.rotation.xyzw())))
        if abs(square - 1) > 1e-3:
            raise ValueError(f"{self.rotation} is suppose to be a normalized quaternion but is not {square}.")
        if self.position.shape != (3,):
            raise refuse("SceneNode", "Vector3", self.position, "translate")


class Agent:
    """One body; sensors follow it."""

    def __init__(self, agent_config: AgentConfiguration) -> None:
        self.agent_config = agent_config
        self._state = AgentState()

    def set_state(self, state: AgentState) -> None:
        state.check()
        xyzw = np.float32(state.rotation.xyzw())
        length = float(np.linalg.norm(xyzw.astype(float)))
        x, y, z, w = (float(value) / length for value in xyzw)
        self._state = AgentState(np.float32(state.position), quaternion(w, x, y, z))

    def get_state(self) -> AgentState:
        return self._state

    def transformation(self) -> np.ndarray:
        """Agent to world, (4, 4)."""
        matrix = np.eye(4)
        matrix[:3, :3] = rotation_matrix(self._state.rotation.xyzw())
        matrix[:3, 3] = self._state.position
        return matrix
