"""Import closure: the sources of a module and of every module of its package that it imports, directly or not.

Imports are followed at any depth and in each form: ``import a.b``, ``from a.b import c`` where c is a module or a name
that a package passes on, relative imports, imports on several lines, behind ``;`` or ``:``, and in a block of ``if``,
``try``, ``match`` or any other. The ``__init__`` of each package on the way, and of the packages that hold the module,
is part of it. Imports in a function at the margin and in a block for type checkers at the margin are not followed,
because loading the module does not run them. Where the text is ambiguous the closure is too large and never too small.
What a module imports by a call (``importlib``, or a function that it calls while it loads) is not seen.

Texts, comments and line continuations are taken out, then import statements and blocks are searched for: a syntax tree
would take ten times as long at every start.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from os.path import isdir, isfile
from pathlib import Path

_NO_CODE = re.compile(
    r'''"""(?:[^"\\]++|\\.|"(?!""))*+"""|"(?:[^"\\\n]++|\\.)*+"|#[^\n]*+'''
    r"""|'{3}(?:[^'\\]++|\\.|'(?!''))*+'{3}|'(?:[^'\\\n]++|\\.)*+'""",
    re.DOTALL,
)
_BLOCK = re.compile(
    r"\n(?:(?P<skipped>(?:async[ \t]+)?def\b|if[ \t]+(?:typing\.)?TYPE_CHECKING[ \t]*:)"
    r"|(?:class|if|elif|else|try|except|finally|with|for|while|match)\b)"
)
"""At the margin. A text, a comment or a closing bracket there begins none."""
_IMPORT = re.compile(r"import\b(?=([ \t\f]*\([^)]*\)|[^\n;]*))")
"""With what follows, which may hold the next one: a name may end in the word."""
_FROM = re.compile(r"\bfrom\b([\w. \t\f]*)$")
_NAME = re.compile(r"[^\W\d][\w.]*|\*")


def sources_of(source: Path, root: Path) -> dict[str, bytes]:
    """Return the source of a module and of all modules of its package that loading it loads, by path.

    Paths are text in here: a start joins and compares thousands of them, and objects would take four times as long.

    Args:
        source: File of the module.
        root: Folder of the package that holds it.

    Cost: each file is read once a process, about 0.2 ms.
    """
    found: dict[str, bytes] = {}
    base = str(root)
    todo = [str(source), *_files(str(source.with_suffix("")), base)]
    while todo:
        path = todo.pop()
        if path not in found:
            found[path], imported = _read(path, base)
            todo.extend(imported)
    return found


@cache
def _read(path: str, root: str) -> tuple[bytes, tuple[str, ...]]:
    """Return the source of a module, and the files of the modules that it imports itself."""
    content = Path(path).read_bytes()
    text = content.decode("utf-8-sig", errors="replace")
    files: dict[str, None] = {}
    for module, names in _imports(text, path, root):
        files.update(dict.fromkeys(_files(module, root)))
        # Of a package a name may be a module.
        if module == _folder(root) or (_is_within(module, root) and isdir(module)):  # noqa: PTH112  # text
            below = [each.stem for each in Path(module).iterdir()] if "*" in names else names
            for name in below:
                files.update(dict.fromkeys(_files(f"{module}/{name.replace('.', '/')}", root)))
    files.pop(path, None)
    return content, tuple(files)


def _imports(text: str, path: str, root: str) -> Iterator[tuple[str, list[str]]]:
    """Yield what is imported: a folder or module without its ending, and the names that may be modules below it."""
    code = _code(text)
    blocks = [(each.start(), each["skipped"] is not None) for each in _BLOCK.finditer(code)]
    for each in _IMPORT.finditer(code):
        line = code.rindex("\n", 0, each.start())
        before = code[line + 1 : each.start()]
        found = _FROM.search(before)
        ahead = before[: found.start()] if found else before
        if ahead and (f"x{ahead[-1]}".isidentifier() or _is_skipped(blocks, line, ahead)):
            continue
        names = _NAME.findall(each[1])
        module = "".join(found[1].split()) if found else ""
        dots = len(module) - len(module.lstrip("."))
        folder = path if dots else _folder(root)
        for _ in range(dots):
            folder = _folder(folder)
        yield "/".join((folder, *filter(None, module.split(".")))), names


def _code(text: str) -> str:
    """Return a source behind a line end, without texts and comments, each statement's begin on one line."""
    code = "\n" + _NO_CODE.sub("''", text.replace("\r\n", "\n").replace("\r", "\n"))
    if "\\" in code:
        code = re.sub(r"(?<=\n)(?:\\\n)+", "", code).replace("\\\n", " ")
    # At the begin of a line a form feed is no indentation.
    return re.sub(r"\n[ \t]*\f", "\n", code) if "\f" in code else code


def _is_skipped(blocks: list[tuple[int, bool]], line: int, ahead: str) -> bool:
    """Return whether an import that does not begin at the margin is in a block that loading the module does not run."""
    place = bisect_right(blocks, (line, True)) - 1
    if place < 0:
        return False
    begin, skipped = blocks[place]
    # Behind something else on an indented line it may be behind the end of a bracket, at the margin.
    return skipped and (begin == line or not ahead.strip())


def _files(module: str, root: str) -> Iterator[str]:
    """Yield the files that importing a module runs, none where it is not of this package."""
    if not _is_within(module, root):
        return
    folder = module
    while True:
        if isfile(package := f"{folder}/__init__.py"):  # noqa: PTH113  # text
            yield package
        if folder == root:
            break
        folder = _folder(folder)
    if isfile(file := f"{module}.py"):  # noqa: PTH113  # text
        yield file


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _is_within(module: str, root: str) -> bool:
    return module == root or module.startswith(f"{root}/")
