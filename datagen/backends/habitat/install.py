"""How to get habitat-sim."""

INSTALL = (
    "conda create -n habitat python=3.12 cmake=3.27 && conda activate habitat && "
    "conda install habitat-sim headless -c conda-forge -c aihabitat"
)
CHECK = "(check with: python -m datagen.backends.doctor habitat_python=...)"
INSTRUCTION = (
    "backend=habitat runs habitat-sim (v0.3.4 or newer) in an environment of its own. Get it with:\n"
    f"    {INSTALL}\n"
    f"then name that environment's Python: backend.python=/path/to/envs/habitat/bin/python {CHECK}"
)
