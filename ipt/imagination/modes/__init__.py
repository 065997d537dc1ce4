"""The imagination modes, one small file each: whatever stands in this folder is registered under its name."""

from importlib import import_module
from pkgutil import iter_modules

from ipt.imagination.base import modes as modes

for _found in iter_modules(__path__):
    import_module(f"{__name__}.{_found.name}")
