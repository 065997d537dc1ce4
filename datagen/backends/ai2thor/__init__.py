"""AI2-THOR behind the scene interface; importing this needs nothing of AI2-THOR itself."""

from datagen.backends.ai2thor.backend import Ai2thorBackend, Ai2thorConfig
from datagen.backends.ai2thor.setup import diagnose

__all__ = ["Ai2thorBackend", "Ai2thorConfig", "diagnose"]
