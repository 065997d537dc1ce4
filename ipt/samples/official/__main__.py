"""The command ``convert``."""

import sys

from ipt.common.cli import run
from ipt.samples.official.convert import ConvertConfig, convert

if __name__ == "__main__":
    command, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    usage = "usage: python -m ipt.samples.official convert key=value ..."
    if command in ("-h", "--help"):
        print(usage, end="\n\n")
        command, arguments = "convert", ["--help"]
    if command != "convert":
        sys.exit(f"{usage} (--help lists the keys)")
    run(ConvertConfig, convert, arguments)
