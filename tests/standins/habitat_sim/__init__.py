"""A stand-in for habitat-sim 0.3.3: the names, types, frames and failures that the worker meets, and not more.

Scenes are the recorded golden room (``tests/golden_habitat``) or embedded homes that a file is named after
(``home-train-3.glb``). ``tests/datagen/test_habitat_standin.py`` holds it against what the real simulator returned.
"""

from habitat_sim import agent as agent
from habitat_sim import nav as nav
from habitat_sim.agent import AgentConfiguration as AgentConfiguration
from habitat_sim.agent import AgentState as AgentState
from habitat_sim.nav import PathFinder as PathFinder
from habitat_sim.nav import ShortestPath as ShortestPath
from habitat_sim.settings import CameraSensorSpec as CameraSensorSpec
from habitat_sim.settings import Configuration as Configuration
from habitat_sim.settings import NavMeshSettings as NavMeshSettings
from habitat_sim.settings import SensorSubType as SensorSubType
from habitat_sim.settings import SensorType as SensorType
from habitat_sim.settings import SimulatorConfiguration as SimulatorConfiguration
from habitat_sim.simulator import Simulator as Simulator

__version__ = "0.3.3"
