"""Parser: from a text to its syntax tree, by Python's own parser for one expression, with bounds before and after.

Python's ``ast`` has precedence, chains, quoting and source positions; nothing is ever executed.
"""

import ast
from collections.abc import Iterator

from midstream.core.errors import Fault
from midstream.features.expressions.python_parser import parse_expression
from midstream.features.expressions.syntax import offence

TEXT_CHARACTERS_MAX = 1_000
NODES_MAX = 64
"""Values and operations of one text: a page holds more than anyone reads, and reading it takes 1 ms at most."""
PAGE = "/docs/language.md"
LANGUAGE = (
    "Allowed: names, numbers, texts, true, false, lists, + - * /, == != < <= > >=, in, and, or, not, ( ), log(), "
    "sqrt(), min(), max(), if_nan()."
)


class Notes:
    """Faults of one text, each with its position in the text."""

    def __init__(self, text: str, where: str) -> None:
        """Begin with nothing wrong.

        Args:
            text: As ``unified`` gives it.
            where: Pointer to the text, for the faults.
        """
        self._lines = f"({text}\n)".split("\n")
        self._where = where
        self._faults: dict[Fault, None] = {}

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults, each once, in order."""
        return tuple(self._faults)

    def said(self, node: ast.expr) -> str:
        """Return a node as the text has it, its beginning if it is long."""
        line = self._lines[node.lineno - 1].encode()
        is_all = node.lineno == node.end_lineno
        return line[node.col_offset : node.end_col_offset if is_all else None].decode()[:60]

    def refuse(self, node: ast.expr, came: str, right: str) -> None:
        """Note a fault at the place of a node."""
        line = self._lines[node.lineno - 1].encode()
        place = _place(node.lineno, len(line[: node.col_offset].decode()))
        self._faults[Fault(self._where, f"{place}: {came}", right, PAGE)] = None


def unified(text: str) -> str:
    """Return the text with one kind of line ends, which Python takes for the same."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def tree_of(text: str, noun: str, where: str) -> ast.expr | Fault:
    """Return the tree of a text, or its fault.

    Args:
        text: As ``unified`` returns it. It may go over several lines and have comments.
        noun: Its purpose: ``condition`` or ``formula``.
        where: Pointer to the text, for the fault.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        return Fault(where, f"The text has {len(text)} characters.", f"At most {TEXT_CHARACTERS_MAX} characters.", PAGE)
    try:
        # The bracket lets a text go on in the next line; the line break ends a comment at its end.
        tree = parse_expression(f"({text}\n)")
        # A text such as "a) or (b" must not close that bracket: then it does not fit into another kind.
        parse_expression(f"[{text}\n]")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return Fault(where, _syntax(error, text, noun), LANGUAGE, PAGE)
    if isinstance(tree, ast.Tuple):
        return Fault(where, f"{text[:60]!r} is not one {noun}.", LANGUAGE, PAGE)
    count = sum(1 for _ in _counted(tree))
    if count > NODES_MAX:
        return Fault(where, f"The text has {count} values and operations.", f"At most {NODES_MAX}.", PAGE)
    return tree


def _counted(tree: ast.expr) -> Iterator[ast.expr]:
    """Yield each value and operation; a dotted name is one, and the name of a function none."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.expr):
            yield node
        todo.extend(
            each
            for field, value in ast.iter_fields(node)
            for each in (value if isinstance(value, list) else [value])  # pyright: ignore[reportUnknownVariableType]
            if isinstance(each, ast.AST) and not _is_of_name(node, field, each)
        )


def _is_of_name(node: ast.AST, field: str, part: ast.AST) -> bool:
    """Return whether a part of a node is only a part of its name."""
    if isinstance(node, ast.Call) and field == "func":
        return isinstance(part, ast.Name) or (isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name))
    return isinstance(node, ast.Attribute) and field == "value" and isinstance(part, ast.Name)


def _syntax(error: BaseException, text: str, noun: str) -> str:
    """Return where the text stops being an expression, and why."""
    if (found := offence(text)) is not None:
        at, what = found
        line = text.count("\n", 0, at) + 1
        before = at - (text.rfind("\n", 0, at) + 1)
        end = "" if text[at:].strip() else ", its end"
        return f"{_place(line, before + (line == 1))}{end}: {what}"
    if isinstance(error, SyntaxError) and error.offset and error.lineno and error.lineno <= text.count("\n") + 1:
        return f"{_place(error.lineno, error.offset - 1)}: from here on it cannot be read as a {noun}."
    return f"It cannot be read as a {noun}."


def _place(line: int, before: int) -> str:
    """Return where something stands, from the line and how many characters are before it; the first has a bracket."""
    return f"column {max(1, before)}" if line == 1 else f"line {line}, column {before + 1}"
