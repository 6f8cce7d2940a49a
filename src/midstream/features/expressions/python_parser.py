"""Python's own parser for one expression, in which a warning about the text is a syntax error.

Python warns of some texts that it will not read them for ever, such as a backslash before a letter that needs none.
The filters of warnings are those of the whole process, so that of this module names its own texts alone: a warning
of another thread, or of an object that the garbage collector finds meanwhile, stays what it was.

Reference: https://docs.python.org/3/library/warnings.html#warnings.catch_warnings ("not thread-safe")
"""

import ast
import os
import warnings
from threading import RLock
from typing import Final

SOURCE_NAME: Final = "<expression of midstream>"
"""Name of the texts, as that of a file is: what Python says of one, it says of this name."""
_ONE_PARSES: Final = RLock()
"""Two that set filters at once would each put back the other's. Held for 1 ms at most, as texts are bounded. A fork
waits for it: else a child of it could have the lock held by a thread that it does not have."""
os.register_at_fork(before=_ONE_PARSES.acquire, after_in_parent=_ONE_PARSES.release, after_in_child=_ONE_PARSES.release)


def parse_expression(source: str) -> ast.expr:
    """Return the syntax tree of an expression.

    Raises:
        SyntaxError: It is none, or Python warns of it.
        ValueError: A character is no text, or a number is too long.
        MemoryError: It is nested too deeply.
        RecursionError: As above.
    """
    with _ONE_PARSES, warnings.catch_warnings():
        warnings.filterwarnings("error", module=SOURCE_NAME)
        return ast.parse(source, SOURCE_NAME, "eval").body
