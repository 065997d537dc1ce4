"""Settings of modes are checked before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys


def test_modes_and_their_settings_do_not_load_torch() -> None:
    code = "import sys; import ipt.training.config, ipt.imagination.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
