"""Generator of ``app/config/template.toml``: each setting with its default, and the docstring under its field.

The file is part of the sources, so that `midstream init` copies it and needs no source of a type at run time; a test
holds that it is current. After a change of a setting or of its docstring run this file.
Of a docstring the first paragraph is taken; what follows a blank line is for those who read the code.
"""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping

import msgspec

from midstream.app.config.schema import Config
from midstream.app.config.template import TEMPLATE
from midstream.core.field_bounds import Told
from midstream.core.type_faults import is_list, is_table

HEAD = """\
# midstream: the configuration. Every setting is here with its default; a line that is left out means the same.
# A length of time is a whole number and one of ms, s, m, h, d. `midstream docs configuration` explains each part.
"""
GROUPED_FROM = 10_000
"""Numbers from here on are written in groups of three digits."""
OWN_TABLES = ("events.types", "items.attributes")
"""Tables of names that a shop chooses, which stand by themselves; those of a placement stand in one line."""


def template() -> str:
    """Return the commented file."""
    default: dict[str, Told] = msgspec.json.decode(msgspec.json.encode(Config(), enc_hook=str))
    words = docs_of(Config)
    return "\n".join((HEAD, *(text for key, told in default.items() for text in _part(words, key, told, Config(), ""))))


def docs_of(struct: type) -> dict[str, str]:
    """Return the first paragraph of the docstring under each field of a type, its bases' fields included."""
    found: dict[str, str] = {}
    for each in reversed(
        [each for each in struct.__mro__ if issubclass(each, msgspec.Struct) and each is not msgspec.Struct]
    ):
        (tree,) = ast.parse(inspect.getsource(each)).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = _first_paragraph(str(text.value.value))
    return found


def _first_paragraph(docstring: str) -> str:
    text = inspect.cleandoc(docstring).partition("\n\n")[0].rstrip().replace("``", "`")
    return re.sub(r"docs/([a-z/-]+)\.md", r"midstream docs \1", text)


def _part(words: Mapping[str, str], key: str, told: Told, parent: object, path: str) -> Iterator[str]:
    """Yield the tables of a setting that is one, or a list of them; of an empty list its example, as a comment."""
    meaning, value, path = words.get(key, ""), getattr(parent, key), f"{path}{key}"
    if is_table(told):
        yield from _table(meaning, f"[{path}]", told, value)
    elif not told:
        yield "\n".join((*_comment(meaning), ""))
    else:
        for number, (each, inner) in enumerate(zip(told, value, strict=True)):
            yield from _table("" if number else meaning, f"[[{path}]]", each, inner)


def _table(meaning: str, header: str, told: Mapping[str, Told], value: object) -> Iterator[str]:
    """Yield a table, then the tables in it. A setting without a default stands in its comment."""
    words, path = docs_of(type(value)), f"{header.strip('[]')}."
    if "kind" in told and "name" in told:  # of a component: what it is, and its name, come first
        words["kind"] = _first_paragraph(type(value).__doc__ or "")
        told = {"kind": told["kind"], "name": told["name"], **told}
    inner = [key for key, each in told.items() if f"{path}{key}" in OWN_TABLES or _is_tables(each)]
    lines: list[str] = []
    for key, each in told.items():
        if key not in inner:
            lines.extend((*_comment(words.get(key, "")), *([] if each is None else [f"{key} = {_toml(each)}"])))
    if lines or not inner:
        yield "\n".join((*_comment(meaning), header, *lines, ""))
    for key in inner:
        yield from _part(words, key, told[key], value, path)


def _is_tables(told: Told) -> bool:
    return is_list(told) and bool(told) and is_table(told[0])


def _comment(text: str) -> Iterator[str]:
    """Yield a text as comment lines."""
    yield from (f"# {line}" for line in text.splitlines())


def _toml(value: Told) -> str:
    """Return a value as TOML in one line."""
    if is_list(value):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if is_table(value):
        inside = ", ".join(f"{key} = {_toml(each)}" for key, each in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, int) and not isinstance(value, bool) and value >= GROUPED_FROM:
        return f"{value:_}"
    # Texts, numbers and truths look the same in both.
    return msgspec.json.encode(value).decode()


if __name__ == "__main__":
    TEMPLATE.write_text(template(), "utf-8")
