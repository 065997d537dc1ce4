"""The commands ``convert`` and ``export``."""

import sys

from ipt.common.cli import run
from ipt.samples.official.convert import ConvertConfig, convert
from ipt.samples.official.export import ExportConfig, export

if __name__ == "__main__":
    command, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if command == "convert":
        run(ConvertConfig, convert, arguments)
    elif command == "export":
        run(ExportConfig, export, arguments)
    else:
        sys.exit("usage: python -m ipt.samples.official convert|export key=value ... (--help lists the keys)")
