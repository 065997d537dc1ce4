"""Answer options inside a question: "... A) 1 B) 2", "...\\n(A) a lamp\\n(B) a chair"."""

from __future__ import annotations

import re
import string

MARK = re.compile(r"(?:^|(?<=\s))\(?([A-Z])[).](?=\s|$)")


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """The question without its options, and the options in the order of their letters; no options where there are not at least
    two, lettered from A without a gap."""
    marks = list(MARK.finditer(text))
    for first in reversed([place for place, mark in enumerate(marks) if mark.group(1) == "A"]):
        run = [marks[first]]
        for mark in marks[first + 1 :]:
            if mark.group(1) == string.ascii_uppercase[len(run) % 26]:
                run.append(mark)
        ends = [mark.start() for mark in run[1:]] + [len(text)]
        choices = tuple(text[mark.end() : end].strip() for mark, end in zip(run, ends, strict=True))
        if len(choices) > 1 and all(choices):
            return text[: run[0].start()].strip(), choices
    return text.strip(), ()
