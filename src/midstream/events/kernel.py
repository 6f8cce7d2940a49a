"""The one way to compile a function: ``kernel``, when it is first called, and where its machine code is cached.

A kernel is compiled, or loaded from the cache, when it is first called, by Python or by a kernel that is compiled: to
import a module with kernels costs nothing, and a command that calls none does not import numba. What serves calls
every one of them before its first request (``engine.answer.warmup``).

numba stamps a cached function with its own file only, so an edit to a function that it calls in another
module would leave the old code in use. Therefore each module's cache folder is named by a hash of its
source and of every module of this package that it imports, directly or not, with numba's version and the
CPU. It is set when a function is made ready to compile, so it does not matter who imported numba first.
What is compiled is the code that was imported; where a file of it is no longer as it was then (an upgrade
under a running process), nothing is cached.

``NUMBA_CACHE_DIR``, when set, is the parent of these folders; else the user's cache folder is, and a folder
under the temporary one when that cannot be written (a read-only container). A folder that this process may only read
is taken where the administrator or its own user made it and nobody else may write there: an image brings it so.

With ``NUMBA_CPU_NAME`` the machine code is that of another CPU than this one, such as ``x86-64-v3``: of what that one
has and of nothing more, so that it runs on every machine that has as much.
"""

import importlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache, update_wrapper
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, SupportsInt, TypeVar

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import EventBatch
from midstream.events.import_closure import sources_of

P = ParamSpec("P")
R = TypeVar("R")
_PACKAGE = Path(__file__).parent.parent
Stamp = tuple[int, int, int]
"""Of a file: when it was written, when it was put there, its size."""


def _stamp(path: Path | str) -> Stamp | None:
    """Return the stamp of a file, None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  # a path that is text needs no object
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _stamps(folder: str) -> dict[str, Stamp | None]:
    """Return the stamps of all modules below a folder. Cost: 5 µs a file."""
    found: dict[str, Stamp | None] = {}
    for path, _, names in os.walk(folder):
        files = [os.path.join(path, name) for name in names if name.endswith(".py")]  # noqa: PTH118  # as above
        found.update(zip(files, map(_stamp, files), strict=True))
    return found


_IMPORTED = _stamps(str(_PACKAGE))
"""Of this package when this module was imported, and of each other file when its first kernel was."""


@cache
def _numba() -> ModuleType:
    """Return numba, imported without SciPy's linear algebra: 0.15 to 0.25 s of CPU, a sixth of a short command.

    It looks for that when its array functions are imported, to know whether it can compile products of matrices. SciPy
    is a dependency, so it is told yes; it looks again when it does compile one.
    """
    if os.environ.get("NUMBA_CPU_NAME"):
        # Else numba adds what the machine has on which it compiles, which others may not have.
        os.environ.setdefault("NUMBA_CPU_FEATURES", "")
    import numba
    from numba.core import config
    from numba.np import linalg

    config.reload_config()  # type: ignore[no-untyped-call]  # numba may have been imported before
    name = "ensure_blas"
    looks = getattr(linalg, name, None)
    if looks is None or "numba.np.arraymath" in sys.modules:
        return numba
    setattr(linalg, name, lambda: None)
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        setattr(linalg, name, looks)
    return numba


_CALL = "__call__"
"""By a name of its own, as type checkers would take the slot for the method."""


class _Callable(Generic[P, R]):
    """What a call of an object runs is an attribute of it: a call passes no Python function on its way."""

    __slots__ = (_CALL,)
    if TYPE_CHECKING:

        def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
            """Run what the object was last given."""
            ...


class Kernel(_Callable[P, R]):
    """A function that is compiled when it is first called. Cost: 10 ns a call more than numba's own."""

    def __init__(self, function: Callable[P, R], *, is_inlined: bool = False) -> None:
        """Keep the plain function."""
        update_wrapper(self, function)
        self._is_inlined = is_inlined
        self.py_func = function
        """As numba names it."""
        source = function.__code__.co_filename
        if source not in _IMPORTED:
            _IMPORTED[source] = _stamp(source)
        self.__call__ = self._first_call  # type: ignore[method-assign]  # a slot at run time
        self._made: Any = None
        self.is_optional = False
        """Its callers have another way that gives the same bits, so no start waits for its machine code."""
        self.is_pending = False
        """Its machine code is being made: callers take the other way."""

    @property
    def signatures(self) -> list[object]:
        """The types of arguments for which it is compiled or loaded in this process."""
        return [] if self._made is None else list(self._made.signatures)

    @property
    def _numba_type_(self) -> object:
        """What numba asks a value that it does not know: a kernel that another one calls is its compiled function."""
        from numba import typeof  # pyright: ignore[reportUnknownVariableType]  # its argument has no type

        return typeof(self._compiled())  # type: ignore[no-untyped-call]

    def _first_call(self, *arguments: P.args, **named: P.kwargs) -> R:
        made = self._compiled()
        self.__call__ = made  # type: ignore[method-assign]  # as above
        return made(*arguments, **named)

    def _compiled(self) -> Callable[P, R]:
        """Return numba's function; it is made once, whichever thread is first."""
        from numba.core.compiler_lock import global_compiler_lock

        # The compiler's own lock: it asks for kernels while it holds that.
        with global_compiler_lock:
            if self._made is None:
                self._made = self._dispatcher()
        made: Callable[P, R] = self._made
        return made

    def _dispatcher(self) -> object:
        """Return numba's function, with what keeps its machine code."""
        # Nothing takes a kernel as a pointer, so none has the entry point for that.
        made = _numba().njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True, forceinline=self._is_inlined)(
            self.py_func
        )
        source = Path(self.py_func.__code__.co_filename)
        if is_as_imported(source) and (folder := cache_folder(source)) is not None:
            from midstream.events.machine_code.cache import keep_in

            keep_in(folder, made, is_ours=source.is_relative_to(_PACKAGE))
        return take_numbers_as_values(made)

    def compile_for(self, signature: tuple[object, ...]) -> None:
        """Compile or load the machine code for these types of arguments."""
        made: Any = self._compiled()
        made.compile(signature)


def take_numbers_as_values(made: Any) -> object:  # noqa: ANN401  # numba's own
    """Have kernels that call this one with a number of the source compile no version for that number alone.

    LLVM puts small functions in place, and with them such numbers, whichever version it is.
    """
    types: Any = importlib.import_module("numba.core.types")
    unliteral: Callable[[object], object] = types.unliteral
    found = made.get_call_template

    def template(arguments: tuple[object, ...], named: dict[str, object]) -> object:
        return found(tuple(map(unliteral, arguments)), {name: unliteral(each) for name, each in named.items()})

    made.get_call_template = template
    return made


class Intrinsic:
    """Code that kernels take in as it is, made for them when one is compiled that uses it."""

    def __init__(self, generator: Callable[..., Any]) -> None:
        """Keep the function that numba's ``intrinsic`` takes."""
        self.generator = generator
        self._made: Any = None
        self._type: Any = None

    @property
    def _numba_type_(self) -> object:
        """As that of a kernel."""
        from numba.core import registry
        from numba.core.compiler_lock import global_compiler_lock
        from numba.extending import intrinsic as made

        with global_compiler_lock:
            if self._type is None:
                target: Any = registry.cpu_target
                context = target.typing_context
                self._made = made(self.generator)  # kept, as numba refers to it weakly
                context.refresh()
                self._type = context.resolve_value_type(self._made)
        return self._type


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a pure array function on first use, without the GIL, and keep the machine code on disk.

    No ``fastmath`` and no ``parallel``: sums keep the order of the events, so every CPU gives the same
    bits. Integer division by zero gives 0, as in NumPy. Indices are not checked; the Python twin of each
    kernel is.
    """
    return Kernel(function)


def optional_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile as ``kernel`` does what another way stands in for, which a caller takes while ``is_pending`` says so."""
    made = Kernel(function)
    made.is_optional = True
    return made


def is_pending(*functions: Callable[..., object]) -> bool:
    """Return whether the machine code of one of these kernels is being made by another process."""
    return any(isinstance(each, Kernel) and each.is_pending for each in functions)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Make a kernel that is put in the place of each call by another one: for small ones that each event passes.

    An array is handed over as seven values or more, most of them through memory, and what refers to it is counted: for
    a function of a few instructions that takes longer than the function. What calls it grows, and compiles longer.
    """
    return Kernel(function, is_inlined=True)


def intrinsic(generator: Callable[..., Any]) -> Intrinsic:
    """Make a function for kernels alone of one that writes its code (``numba.extending.intrinsic``)."""
    return Intrinsic(generator)


def source_hash(source: Path) -> str:
    """Return 16 hex digits over the sources of a module and of all modules of this package that it needs."""
    digest = sha256()
    found = sources_of(source, _PACKAGE)
    inside = f"{_PACKAGE}/"
    for path in sorted(found):
        # A kernel of a test or of a shop's own component lies elsewhere.
        name = path.removeprefix(inside) if path.startswith(inside) else os.path.basename(path)  # noqa: PTH119  # text
        digest.update(name.encode() + b"\0" + found[path] + b"\0")
    return digest.hexdigest()[:16]


def is_as_imported(source: Path) -> bool:
    """Return whether a module and all that it needs are on disk as imported, so that their hash names the code.

    A module is asked for again at each of its kernels: a component is imported anew, at the same path, after an edit.
    """
    return _is_stamped(source) and _is_closure_stamped(source)


def _is_stamped(path: Path | str) -> bool:
    found = _stamp(path)
    return found is not None and found == _IMPORTED.get(str(path))


@cache
def _is_closure_stamped(source: Path) -> bool:
    return all(map(_is_stamped, sources_of(source, _PACKAGE)))  # they are read before they are looked at


@cache
def cache_folder(source: Path) -> Path | None:
    """Return the folder for the machine code of one module, made if it can be; None where nothing can be kept."""
    from llvmlite import binding  # type: ignore[import-untyped]  # the package brings no types

    cpu = os.environ.get("NUMBA_CPU_NAME") or str(binding.get_host_cpu_name())
    name = f"{source.stem}-{source_hash(source)}-numba{_numba().__version__}-{cpu}"
    return next((folder for parent in _parents() if _is_usable(folder := parent / name)), None)


@cache
def _parents() -> tuple[Path, ...]:
    """Return where cache folders may lie, best first."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    first = Path(chosen) if chosen else user / "midstream" / "kernels"
    try:
        return first, Path(tempfile.gettempdir()) / f"midstream-kernels-{os.getuid()}"
    except OSError:  # every disk is full
        return (first,)


def _is_usable(folder: Path) -> bool:
    """Make the folder, if it can be made; say whether what lies there is this process's own or an administrator's."""
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = _owned(folder)
    # Machine code is run as it is found, so a folder of somebody else's is no cache.
    if found is None or found.st_uid not in {0, os.getuid()}:
        return False
    if found.st_uid == os.getuid() and os.access(folder, os.W_OK):
        return True
    return not found.st_mode & 0o022 and os.access(folder, os.R_OK | os.X_OK)


def _owned(folder: Path) -> os.stat_result | None:
    """Return the owner and the modes of a folder, None where there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found if stat.S_ISDIR(found.st_mode) else None


def frozen_columns(batch: EventBatch) -> tuple[NDArray[np.void], NDArray[np.uint8]]:
    """Return the rows and the text of a batch as kernels take them: read-only, so that there is one compiled version.

    Shapes (n,) and (bytes,). Nothing is copied.
    """
    rows = batch.rows.view()
    rows.flags.writeable = False
    # An empty buffer has no address to share.
    return rows, np.frombuffer(batch.text or b"\0", dtype=np.uint8)


@kernel
def signed(value: SupportsInt) -> int:
    """Return a whole number of any type as int64: numba would make a float of a sum of signed and unsigned."""
    return np.int64(value)  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
