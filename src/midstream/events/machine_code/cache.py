"""Files of a kernel's machine code: written by one process at a time, and never a reason not to run.

numba has a file of entries a function and a file a version of it. It reads the entries, adds one and writes them again;
two processes that did so at once would lose an entry, or take one file for two versions. Here a lock on the folder is
held meanwhile. Where nothing can be written (a full disk, a folder that is only read) the kernel runs all the same; the
next process compiles it again. A version is loaded without its bitcode, which only callers need that are compiled.
"""

import fcntl
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numba.core.errors import NumbaError

from midstream.events.file_modes import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Callable

LOCK_NAME = "writing.lock"
_NUMBA: Any = import_module("numba.core.caching")
"""Most of it has no types."""
_CODE: Any = import_module("numba.core.codegen")
"""As above."""
FAULTS = (
    NumbaError, ImportError, AttributeError, TypeError, ValueError, LookupError, RuntimeError, EOFError, OSError,
    _NUMBA.pickle.PickleError, MemoryError,
)  # fmt: skip
"""What a list that is too old, a damaged file or no memory raises where a kernel is compiled or loaded."""


def keep_in(folder: Path, made: Any, *, is_ours: bool) -> None:  # noqa: ANN401  # numba's own
    """Have a function that numba made look for its machine code in a folder, and keep it there.

    Args:
        folder: Of its module.
        made: The function; compiled for nothing yet.
        is_ours: Of this package, whose sources name the folder; others lie in a folder by their path in there.
    """
    made._cache = _Cache(made.py_func, folder, is_ours=is_ours)  # noqa: SLF001  # numba has no other place to say it


class _Cache(_NUMBA.FunctionCache):  # type: ignore[misc]  # as above
    def __init__(self, function: Any, folder: Path, *, is_ours: bool) -> None:  # noqa: ANN401  # numba's own
        places = _Places(folder, is_ours=is_ours)
        self._impl_class: Callable[[object], object] = lambda each: _Files(each, places)
        self._lock = folder / LOCK_NAME
        parent: Any = super()
        parent.__init__(function)

    def save_overload(self, signature: Any, made: Any) -> None:  # noqa: ANN401  # numba's own
        """Write one version, alone; without it where that cannot be done."""
        try:
            lock = os.open(self._lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        except OSError:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            parent: Any = super()
            parent.save_overload(signature, made)
        except OSError:
            return
        finally:
            os.close(lock)


class _Files(_NUMBA.CompileResultCacheImpl):  # type: ignore[misc]  # as above
    def __init__(self, function: Any, places: "_Places") -> None:  # noqa: ANN401  # numba's own
        self._locator_classes = [places]
        parent: Any = super()
        parent.__init__(function)

    def rebuild(self, context: Any, written: tuple[Any, ...]) -> Any:  # noqa: ANN401  # numba's own
        """Return a version as it was written, ready to run."""
        codegen, function = context.codegen(), written[1]
        codegen._library_class = _Library  # noqa: SLF001  # numba has no other place to say it
        # What is asked for by its name; else the bitcode would have to be read for it.
        codegen._engine._defined_symbols |= {function.llvm_cpython_wrapper_name, function.llvm_func_name}  # noqa: SLF001
        parent: Any = super()
        return parent.rebuild(context, written)


class _Library(_CODE.JITCodeLibrary):  # type: ignore[misc]  # as above
    """Machine code of one version, whose bitcode is read when a kernel is compiled that calls it.

    numba reads that with the machine code, and lists all names in it: half of the time that a kernel takes to load, and
    twice the memory. Only the compiler needs it, to put a function in place where it is called.
    """

    _bitcode = b""
    """Not read yet; empty = read, or compiled in this process."""

    @classmethod
    def _unserialize(cls, codegen: Any, written: tuple[str, str, Any]) -> "_Library":  # noqa: ANN401  # numba's own
        name, kind, content = written
        parent: Any = super()
        if kind != "object":
            return parent._unserialize(codegen, written)  # type: ignore[no-any-return]  # noqa: SLF001
        found: Any = codegen.create_library(name)
        code, found._bitcode = content  # noqa: SLF001
        found.enable_object_caching()
        found._set_compiled_object(code)  # noqa: SLF001
        found._finalize_final_module()  # noqa: SLF001
        return found  # type: ignore[no-any-return]  # as above

    def _get_module_for_linking(self) -> Any:  # noqa: ANN401  # numba's own
        if self._bitcode:
            self._shared_module = _CODE.ll.parse_bitcode(self._bitcode)
            self._bitcode = b""
            self._codegen._engine._load_defined_symbols(self._shared_module)  # noqa: SLF001  # as numba does
        parent: Any = super()
        return parent._get_module_for_linking()  # noqa: SLF001


class _Places:
    """What numba asks where a function's files lie, in place of the folders that it looks for itself."""

    def __init__(self, folder: Path, *, is_ours: bool) -> None:
        self._folder = folder
        self._is_ours = is_ours

    def from_function(self, function: Any, source: str) -> "_Place":  # noqa: ANN401  # numba's own
        """Return the place, whether or not anything can be written there."""
        inside = "" if self._is_ours else _Place.get_suitable_cache_subpath(source)
        return _Place(function, source, self._folder / inside)


class _Place(_NUMBA.UserProvidedCacheLocator):  # type: ignore[misc]  # as above
    def __init__(self, function: Any, source: str, folder: Path) -> None:  # noqa: ANN401  # numba's own
        self._py_file = source
        self._lineno = function.__code__.co_firstlineno
        self._cache_path = str(folder)

    def ensure_cache_path(self) -> None:
        """Make the folder; that of the module is there."""
        Path(self._cache_path).mkdir(exist_ok=True)
