"""The Java of this machine, and what all its servers are started with."""

import os
import re
import shutil
import subprocess
from collections.abc import Container, Iterator
from pathlib import Path

from tests.support.services.faults import Unavailable

_INSTALLED = Path("/usr/lib/jvm")
VERSION_S_MAX = 60


def find_java(versions: Container[int], wanted: str) -> str:
    """Return a ``java`` of one of some feature versions: that of ``JAVA_HOME``, of ``PATH``, or another one.

    Raises:
        Unavailable: There is none.
    """
    came: list[str] = []
    for path in _candidates():
        version = _version(path)
        if version in versions:
            return path
        came.append(f"{path} ({version})")
    message = f"Java {wanted} is not installed; found: {', '.join(came) or 'none'}"
    raise Unavailable(message)


def java_options(heap_mb: int, *, is_brief: bool) -> list[str]:
    """Return what bounds the memory of a server that few clients use, and ends it when that is not enough.

    Args:
        heap_mb: Memory of its objects.
        is_brief: Compile with the first compiler alone: a start takes two thirds of the work, a long load more.
    """
    return [
        *(["-XX:TieredStopAtLevel=1"] if is_brief else []),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Djava.net.preferIPv4Stack=true",
    ]


def _candidates() -> Iterator[str]:
    home = os.environ.get("JAVA_HOME")
    named = [str(Path(home) / "bin" / "java")] if home else []
    for each in [*named, shutil.which("java"), *map(str, sorted(_INSTALLED.glob("*/bin/java")))]:
        if each and Path(each).is_file():
            yield each


def _version(java: str) -> int:
    """Return the feature version of a Java, 0 where it says none."""
    ran = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=VERSION_S_MAX, check=False)
    found = re.search(r'version "(\d+)', ran.stderr)
    return int(found[1]) if found else 0
