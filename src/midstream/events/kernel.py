"""The one way to compile a function: ``kernel``, and where its machine code is cached.

numba stamps a cached function with its own file only, so an edit to a function that it calls in another
module would leave the old code in use. Therefore each module's cache folder is named by a hash of its
source and of every module of this package that it imports, directly or not, with numba's version and the
CPU. It is set when a function is decorated, so it does not matter who imported numba first.

``NUMBA_CACHE_DIR``, when set, is the parent of these folders; else the user's cache folder is, and a folder
under the temporary one when that cannot be written (a read-only container).
"""

import os
import re
import tempfile
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import ParamSpec, SupportsInt, TypeVar, cast

import numba
import numpy as np
from llvmlite import binding  # type: ignore[import-untyped]  # the package brings no types
from numba.core import config
from numpy.typing import NDArray

from midstream.core.types import EventBatch

P = ParamSpec("P")
R = TypeVar("R")
_PACKAGE = Path(__file__).parent.parent
_IMPORT = re.compile(r"^from midstream\.(\w+)\.(\w+) import", re.MULTILINE)


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a pure array function on first use, without the GIL, and keep the machine code on disk.

    No ``fastmath`` and no ``parallel``: sums keep the order of the events, so every CPU gives the same
    bits. Integer division by zero gives 0, as in NumPy. Indices are not checked; the Python twin of each
    kernel is.
    """
    source = Path(function.__code__.co_filename)
    setattr(config, "CACHE_DIR", str(cache_folder(source)))  # noqa: B010  # numba makes its settings at run time
    compiled = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    return cast("Callable[P, R]", compiled)


def source_hash(source: Path) -> str:
    """Return 16 hex digits over the sources of a module and of all modules of this package that it needs."""
    found: dict[Path, bytes] = {}
    todo = [source]
    while todo:
        path = todo.pop()
        if path in found or not path.is_file():
            continue
        found[path] = path.read_bytes()
        names = cast("list[tuple[str, str]]", _IMPORT.findall(found[path].decode()))
        todo.extend(_PACKAGE / folder / f"{module}.py" for folder, module in names)
    digest = sha256()
    for path in sorted(found):
        digest.update(path.name.encode() + b"\0" + found[path] + b"\0")
    return digest.hexdigest()[:16]


@cache
def cache_folder(source: Path) -> Path:
    """Return the folder for the machine code of one module, made if it can be."""
    cpu = os.environ.get("NUMBA_CPU_NAME") or str(binding.get_host_cpu_name())
    name = f"{source.stem}-{source_hash(source)}-numba{numba.__version__}-{cpu}"
    for parent in _parents():
        folder = parent / name
        if _is_writable(folder):
            return folder
    return Path(tempfile.mkdtemp(prefix="midstream-kernels-"))


@cache
def _parents() -> tuple[Path, ...]:
    """Return where cache folders may lie, best first."""
    temporary = Path(tempfile.gettempdir()) / f"midstream-kernels-{os.getuid()}"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return (Path(chosen), temporary)
    user = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return (Path(user) / "midstream" / "kernels", temporary)


def _is_writable(folder: Path) -> bool:
    """Make the folder; say whether this process owns it and may write there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    # Machine code is run as it is found, so a folder of somebody else's is no cache.
    return os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid()


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
