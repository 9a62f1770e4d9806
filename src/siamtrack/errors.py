"""The one exception for what the person can mend, and help with misspelt names."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Input that cannot be used.

    Its text is one sentence for a person: what was given, what was expected, what to do. The command line
    prints it and exits with code 2; any other exception is a defect of siamtrack.
    """


class TooMuchAtOnce(UserError, MemoryError):
    """Memory does not suffice for so much at once; a part of it may fit."""


def nearest(name: object, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known name most like ``name``, or an empty string."""
    close = difflib.get_close_matches(str(name).lower(), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
