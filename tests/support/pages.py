"""Code blocks of a documentation page, and the shell commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
TASKS = tuple(sorted((ROOT / "docs" / "tasks").glob("*.md")))
_BLOCK = re.compile(r"^(?:(?:[^\n]*[.:)] )?`([^`\n]+)`:\n\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KEYWORDS = frozenset({"if", "then", "else", "do", "!"})


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    file: str
    """Name of the file that a line above says it is, such as ``midstream.toml``; empty = it is no file."""


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, from the top."""
    return [Block(match[2], match[3], match[1] or "") for match in _BLOCK.finditer(page.read_text("utf-8"))]


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block, without here-documents; one may go over several lines."""
    pending = end = ""
    for line in block.text.splitlines():
        if end:
            end = "" if line == end else end
            continue
        pending += line.removesuffix("\\") if line.endswith("\\") else f"{line}\n"
        if line.endswith("\\"):
            continue
        try:
            words = _words(pending)
        except ValueError:  # A quote that a later line closes.
            continue
        pending = ""
        end = words[words.index("<<") + 1] if "<<" in words else ""
        yield from _parted(words)
    if pending:
        message = f"a quote is not closed: {pending}"
        raise ValueError(message)


def _words(text: str) -> list[str]:
    """Return the words of a shell command, its operators as words of their own."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def _parted(words: list[str]) -> Iterator[list[str]]:
    """Yield the commands between operators, without the keywords before them."""
    command: list[str] = []
    for word in [*words, ";"]:
        if not set(word) <= set("();<>|&"):
            if command or word not in _KEYWORDS:
                command.append(word)
        elif command:
            yield command
            command = []
