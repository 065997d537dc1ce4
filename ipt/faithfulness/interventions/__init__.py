"""What can be done to mediators, one small file per kind: whatever stands in this folder is registered under its kinds."""

from importlib import import_module
from pkgutil import iter_modules

from ipt.faithfulness.interventions.base import DESTROYED as DESTROYED
from ipt.faithfulness.interventions.base import INTERVENTIONS as INTERVENTIONS
from ipt.faithfulness.interventions.base import Arm as Arm
from ipt.faithfulness.interventions.base import Case as Case
from ipt.faithfulness.interventions.base import Others as Others
from ipt.faithfulness.interventions.base import changed as changed
from ipt.faithfulness.interventions.base import default_arms as default_arms
from ipt.faithfulness.interventions.base import parse_arm as parse_arm
from ipt.faithfulness.interventions.base import stream as stream
from ipt.faithfulness.interventions.base import target_of as target_of

for _found in iter_modules(__path__):
    import_module(f"{__name__}.{_found.name}")
