"""What a user can mend, and nothing else: raised where it is known, printed in one line where the command ends.

Every other exception is a fault of the program: it keeps its traceback, and the command ends with exit code 1.
"""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in settings, data or files; the message says what is wrong, where, and what would be right."""


class MissingFile(FileNotFoundError, UserError):
    """A file or folder that is needed is not there; the message says how to get it."""


class DivergedRun(UserError, FloatingPointError):
    """Losses stayed not finite; the message names the samples."""


class UnwritableFile(OSError, UserError):
    """A file or folder cannot be written; the message says what is kept and what to do."""
