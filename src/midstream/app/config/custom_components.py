"""Loader of custom components, by dotted path, from the folder of the configuration file or from installed packages.

The module of a path is a dotted Python name. Its file is in the folder, after following every link, or it is an
installed package: never a path of the file system, never the standard library. ``app.config.component_constraints``
checks before whether the configuration file names it.
"""

import importlib
import os
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import is_dataclass
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, MappingProxyType, ModuleType
from typing import Any, Final, TypeAlias

import msgspec
import xxhash

from midstream.app.config.schema import Custom
from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.nearest import nearest
from midstream.ranking.boundary import Account, boundary, sentence, told_of
from midstream.state.settings import read_duration

Component: TypeAlias = Any
"""Of one of the five kinds; that it keeps their promises is checked by running it, not by its type."""
PAGE = "/docs/sources.md"
NEEDS: Mapping[str, tuple[str, ...]] = {
    "source": ("name", "retrieve"),
    "filter": ("name", "keep"),
    "scorer": ("name", "score"),
    "selector": ("select",),
    "fetch": ("fetch",),
}
"""Required methods of each kind of component; ``midstream check`` then runs it."""


def load(
    part: object, kind: str, where: str, folder: Path, components: Mapping[str, str] = MappingProxyType({})
) -> Component:
    """Return ``part``, or for a ``Custom`` the component that it names, its options decoded by its type.

    Args:
        part: A component, or a ``Custom``.
        kind: One of ``NEEDS``.
        where: Pointer to the part in the configuration.
        folder: Of the configuration file: ``components:Shelf`` is ``Shelf`` in its ``components.py``.
        components: Paths by name, of ``[components]``.

    Raises:
        ConfigInvalid: There is no such module or name, its options are wrong, or it is no component of that kind.
    """
    if not isinstance(part, Custom):
        return part
    path = components.get(part.name, "") if part.name else part.path
    place = f"{where}.name" if part.name else f"{where}.path"
    component = _decoded(part.options, path, component_type(path, place, folder), where)
    if missing := [each for each in NEEDS[kind] if not hasattr(component, each)]:
        came = f"{path} has no {' and no '.join(missing)}."
        needed = f"A {kind} has {', '.join(NEEDS[kind])}: see core/protocols.py."
        raise ConfigInvalid((Fault(place, came, needed, PAGE),))
    return component


def component_type(path: str, where: str, folder: Path) -> type[Component]:
    """Return the type that a path names, of whichever kind its components are.

    Args:
        path: Such as ``components:Shelf``.
        where: Pointer to it in the configuration.
        folder: Of the configuration file.

    Raises:
        ConfigInvalid: There is no such module or name.
    """
    module_name, _, name = path.partition(":")
    right = 'A path such as "components:Shelf": a module beside midstream.toml, or installed, and a name in it.'
    if not name or not module_name:
        raise ConfigInvalid((Fault(where, f"{path!r} came.", right, PAGE),))
    module = _module(module_name, where, folder)
    found: object = getattr(module, name, None)
    if not isinstance(found, type):
        known = [each for each, value in vars(module).items() if isinstance(value, type) and not each.startswith("_")]
        came = f"{module_name} has no type {name!r}.{nearest(name, known)}"
        raise ConfigInvalid((Fault(where, came, right, PAGE),))
    kind: type[Component] = found
    if not (issubclass(kind, msgspec.Struct) or is_dataclass(kind)):
        came = f"{path} says nothing about its options."
        right = "A frozen msgspec.Struct or a frozen dataclass, its options as fields."
        raise ConfigInvalid((Fault(where, came, right, PAGE),))
    return kind


def _decoded(options: Mapping[str, Any], path: str, kind: type[Component], where: str) -> Component:
    """Return a component made of the options, which are data: nothing of them is imported, opened or called."""
    raised: list[BaseException] = []
    with boundary(path, Account(errors=raised)):
        return msgspec.convert(options, kind, dec_hook=read_duration)
    (error,) = raised
    came = sentence(str(error) if isinstance(error, msgspec.ValidationError) else f"{path} raised {told_of(error)}")
    right = f"What the fields of {path} say."
    raise ConfigInvalid((Fault(f"{where}.options", came, right, PAGE),)) from error


def _module(name: str, where: str, folder: Path) -> ModuleType:
    """Import the module beside the configuration file, or else an installed one."""
    _require_dotted(name, where)
    path = _beside(name, where, folder)
    if path is None:
        _require_installed(name, where, folder)
    raised: list[BaseException] = []
    with _importable(folder), boundary(name, Account(errors=raised)):
        return _from_file(name, path) if path is not None and path.is_file() else importlib.import_module(name)
    (error,) = raised
    right = f"A module {name.rpartition('.')[2]}.py in {folder}, or one that is installed."
    match error:
        case ImportError():
            came = f"{name!r} cannot be imported: {error}"
        case SyntaxError():
            came = f"{name!r} cannot be read: {error}"
        case _:
            came = f"{name!r} cannot be imported: it raised {told_of(error)}"
            right = "A module that can be imported anywhere: what it does goes into functions and types."
    raise ConfigInvalid((Fault(where, sentence(came), right, PAGE),)) from error


def _require_dotted(name: str, where: str) -> None:
    """Refuse a path that is no dotted Python name, such as a file's."""
    if not all(part.isidentifier() for part in name.split(".")):
        came = f"{name!r} is no name of a module."
        right = 'Python names with dots between them, such as "components" or "shop.shelves", and no path of a file.'
        raise ConfigInvalid((Fault(where, came, right, PAGE),))


def _beside(name: str, where: str, folder: Path) -> Path | None:
    """Return the file or the package of a module in the folder, links followed; None = it has none there.

    Raises:
        ConfigInvalid: A link leads out of the folder, or to nothing.
    """
    told = folder.joinpath(*name.split("."))
    found = next((each for each in (told.with_suffix(".py"), told / "__init__.py") if os.path.lexists(each)), None)
    if found is None:
        return None
    if not found.exists():  # an installed module of that name is another one
        came = f"{found.relative_to(folder)} is a link, and what it leads to is not there."
        raise ConfigInvalid((Fault(where, came, f"A file in {folder}, or a link to one there.", PAGE),))
    path, root = found.resolve(), folder.resolve()
    if not path.is_relative_to(root):
        came = f"{found.relative_to(folder)} is a link that leads out of the folder of midstream.toml."
        raise ConfigInvalid((Fault(where, came, f"A file in {folder}, or a link to one there.", PAGE),))
    return path.parent if found.name == "__init__.py" else path


def _require_installed(name: str, where: str, folder: Path) -> None:
    """Refuse modules that are no components: the standard library, and private modules."""
    first = name.partition(".")[0]
    if first in sys.stdlib_module_names or any(part.startswith("_") for part in name.split(".")):
        came = f"{name!r} is of the standard library, or not for others to import."
        right = f"A module {name.rpartition('.')[2]}.py in {folder}, or a package that is installed beside midstream."
        raise ConfigInvalid((Fault(where, came, right, PAGE),))


def _from_file(name: str, path: Path) -> ModuleType:
    """Run a file as a module under a name of its own, so that two folders may each have a ``components.py``.

    The file's content is part of the name: after an edit the next plan has the new code.
    """
    source = path.read_bytes()
    unique = f"midstream_custom_{xxhash.xxh3_64_hexdigest(str(path).encode() + source)}_{name}"
    if unique in sys.modules:
        return sys.modules[unique]
    spec = spec_from_file_location(unique, path, loader=_SourceInHand(unique, str(path), source))
    if spec is None or spec.loader is None:
        message = f"{path} is no Python file"
        raise ImportError(message)
    module = module_from_spec(spec)
    sys.modules[unique] = module  # types look their annotations up there
    with ExitStack() as undo:
        undo.callback(sys.modules.pop, unique)
        spec.loader.exec_module(module)
        undo.pop_all()
    return module


class _SourceAlone(SourceFileLoader):
    """Loader of source without the cache of bytecode.

    The interpreter trusts cached bytecode where the file's size and its time in whole seconds are as before. So two
    edits of equal length in one second would run as the first of them.
    """

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the source."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _SourceInHand(_SourceAlone):
    """Loader of source that was read already."""

    def __init__(self, fullname: str, path: str, source: bytes) -> None:
        super().__init__(fullname, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the source."""
        return self.source_to_code(self._source, self.get_filename(fullname))


_LOADERS: Final = (ExtensionFileLoader, EXTENSION_SUFFIXES), (_SourceAlone, SOURCE_SUFFIXES)
"""In the interpreter's order: what is compiled goes before source of the same name."""


class _FolderFinder:
    """Finder of modules and packages of the folders that are loaded from now, from their source alone.

    All else is for the finders behind it: what is installed, also below a folder, and namespace packages. There is one,
    which stays: a finder that is removed while another thread goes over the list makes that thread pass over the next.
    """

    def __init__(self) -> None:
        self._folders: tuple[Path, ...] = ()
        """The newest first."""
        self._changing = threading.Lock()

    def add(self, folder: Path) -> None:
        """Find what is in a folder, before what is in others."""
        with self._changing:
            self._folders = (folder, *self._folders)
            if self not in sys.meta_path:
                sys.meta_path.insert(sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0, self)

    def remove(self, folder: Path) -> None:
        """Undo one ``add``."""
        with self._changing:
            at = self._folders.index(folder)
            self._folders = (*self._folders[:at], *self._folders[at + 1 :])

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module is loaded, None = it is no source of the folder.

        Args:
            fullname: Dotted name.
            path: Of the package that it is in, None = it is in none.
            target: A module that is loaded anew.
        """
        parents = fullname.split(".")[:-1]
        for folder in self._folders:
            place = str(folder.joinpath(*parents))
            if parents and (path is None or place not in path):
                continue
            spec = FileFinder(place, *_LOADERS).find_spec(fullname, target)
            if spec is not None and spec.loader is not None:
                return spec
        return None


_finder: Final = _FolderFinder()


@contextmanager
def _importable(folder: Path) -> Generator[None]:
    """Put a folder on the search path for as long as an import takes; its source is loaded without bytecode."""
    resolved = folder.resolve()
    entry = str(resolved)
    sys.path.insert(0, entry)
    _finder.add(resolved)
    try:
        yield
    finally:
        _finder.remove(resolved)
        if entry in sys.path:  # not where the module put another list there
            sys.path.remove(entry)
