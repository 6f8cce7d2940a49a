"""Syntax errors of expressions, in words of the language: the first unexpected token.

Python's parser decides whether a text is an expression. Its errors are about Python programs, and often point to the
beginning of the expression instead of the error. So the text is scanned once more: tokens by one pattern, then the
allowed order of operands and operations.
"""

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass

from midstream.features.expressions.python_parser import parse_expression

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\f\n]+|\\\n|\#[^\n]*)
    | (?P<text>[bBfFrRuU]{0,2}(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}
                              |\"(?!\"\")(?:[^\"\\\n]|\\.)*\"|'(?!'')(?:[^'\\\n]|\\.)*'))
    | (?P<number>(?:\d|\.\d)(?:[eE][+-]|[\w.])*)
    | (?P<name>[^\W\d]\w*)
    | (?P<sign>\"{3}|'{3}|==|!=|<=|>=|&&|\|\||<>|:=|\*\*|//|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPERATIONS = frozenset(("+", "-", "*", "/", "==", "!=", "<", "<=", ">", ">=", "in", "and", "or", "is"))
_BETWEEN = _OPERATIONS | {"(", "[", ",", "."}
_PREFIXES = frozenset(("(", "[", "-", "+"))
_BEFORE_NOT = frozenset(("(", "[", ",", "and", "or", "not", "is"))
_TRUTHS = frozenset(("True", "False"))
_WORDS = frozenset(("in", "and", "or", "not", "is")) | _TRUTHS
_INSTEAD = {
    "=": "==",
    "&&": "and",
    "&": "and",
    "||": "or",
    "|": "or",
    "!": "not",
    "<>": "!=",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
}
_CLOSES = {")": "(", "]": "["}
_SHOWN_MAX = 40


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a text."""

    kind: str
    """``text``, ``number``, ``name`` or ``sign``."""
    word: str
    at: int
    """Characters before it."""

    @property
    def shown(self) -> str:
        """The piece as it can be printed, its beginning if it is long."""
        return self.word[:_SHOWN_MAX] if self.word.isprintable() else ascii(self.word[:_SHOWN_MAX])[1:-1]


def offence(text: str) -> tuple[int, str] | None:
    """Return the number of characters before the first unexpected token, and the error.

    Args:
        text: With line feeds as its only line ends.

    Returns:
        None = no error is found: the text is valid Python outside of the language.
    """
    tokens = list(_tokens(text))
    open_ones: list[Token] = []
    wants_operand, last = True, Token("sign", "(", 0)
    for number, token in enumerate(tokens):
        if wrong := _wrong_alone(token):
            return token.at, wrong
        if token.word in _CLOSES and token.kind == "sign":
            if not open_ones or open_ones[-1].word != _CLOSES[token.word]:
                return token.at, f"`{token.word}` closes no `{_CLOSES[token.word]}`."
            if wants_operand and last.word not in {",", open_ones[-1].word}:
                return token.at, f"Something is missing before `{token.word}`."
            open_ones.pop()
            wants_operand = False
        else:
            follows = _follows(token, last, tokens[number + 1 : number + 2], wants_operand=wants_operand)
            if follows is None or (token.word == "," and token.kind == "sign" and not open_ones):
                return token.at, f"`{token.shown}` cannot stand here."
            wants_operand = follows
            if token.kind == "sign" and token.word in _CLOSES.values():
                open_ones.append(token)
        last = token
    if open_ones:
        return open_ones[-1].at, f"`{open_ones[-1].word}` is not closed."
    return (last.at + len(last.word), "Something is missing.") if wants_operand and tokens else None


def _tokens(text: str) -> Iterator[Token]:
    """Yield the pieces of a text; what is no piece of any is a sign of one character."""
    for found in _TOKEN.finditer(text):
        if found.lastgroup is not None and found.lastgroup != "space":
            yield Token(found.lastgroup, found[0], found.start())


def _wrong_alone(token: Token) -> str:
    """Return what is wrong with a piece wherever it stands; empty = nothing."""
    word = token.word
    if token.kind in {"text", "number"} and not _is_literal(word):
        right = r"a text in quotes, a backslash in it as \\" if token.kind == "text" else "a number"
        return f"`{token.shown}` is not {right}."
    if token.kind == "name" and keyword.iskeyword(word) and word not in _WORDS:
        return f"`{word}` is a word of Python that means nothing here."
    if token.kind != "sign" or word in _OPERATIONS or word in "()[].,":
        return ""
    if word[0] in "\"'":
        return "The text that begins here has no end."
    hint = f" Use `{_INSTEAD[word]}`." if word in _INSTEAD else ""
    return f"`{token.shown}` means nothing here.{hint}"


def _is_literal(word: str) -> bool:
    """Return whether Python reads a text or a number, without a warning."""
    try:
        parse_expression(word)
    except (SyntaxError, ValueError):
        return False
    return True


def _follows(token: Token, last: Token, then: list[Token], *, wants_operand: bool) -> bool | None:
    """Return whether an operand is wanted behind a piece; None = it cannot stand behind what is before it."""
    if last.kind == "sign" and last.word == ".":
        return False if token.kind == "name" and not keyword.iskeyword(token.word) else None
    is_sign = token.kind == "sign"
    if wants_operand:
        is_prefix = token.word in _PREFIXES if is_sign else token.word == "not" and last.word in _BEFORE_NOT
        if is_prefix or (token.word == "in" and last.word == "not"):
            return True
        return None if is_sign or token.word in _WORDS - _TRUTHS else False
    if token.kind == "text" and last.kind == "text":
        return False  # texts beside each other are one
    is_between = token.word in _BETWEEN if is_sign else token.word in _OPERATIONS
    is_not_in = token.word == "not" and (not then or then[0].word == "in")
    return True if is_between or is_not_in else None
