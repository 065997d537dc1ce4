"""The command ``convert``."""

import sys

from ipt.common.cli import run
from ipt.samples.official.convert import ConvertConfig, convert

if __name__ == "__main__":
    command, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if command != "convert":
        sys.exit("usage: python -m ipt.samples.official convert key=value ... (--help lists the keys)")
    run(ConvertConfig, convert, arguments)
