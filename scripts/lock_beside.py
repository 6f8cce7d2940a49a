"""Lock of packages that tests have in a folder beside .venv, of what pip would install: ``scripts/lock``.

Large packages have a file for each platform and release of Python, and a hash of each would mean fetching all of them.
Here is the hash of the one file that CI installs (CPython 3.11, Linux, x86-64). What .venv has is left out, and so are
the libraries of NVIDIA, which PyTorch names and CI has no use for (``scripts/cuda_stubs.py``).

``python scripts/lock_beside.py REPORT REQUIREMENTS…``: the report of ``pip install --dry-run --report``, and the locks
of what is there already.
"""

import json
import re
import sys
from pathlib import Path

NVIDIA = re.compile(r"^(?:nvidia-(?!cuda-runtime$)|cuda-|triton$)")


def normal(name: str) -> str:
    """Return a name as all tools compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main(report: str, *locks: str) -> int:
    """Print a line for each package, and one for its hash."""
    there = {normal(each) for lock in locks for each in re.findall(r"(?m)^([\w.-]+)==", Path(lock).read_text("utf-8"))}
    found = {normal(each["metadata"]["name"]): each for each in json.loads(Path(report).read_text("utf-8"))["install"]}
    for name, each in sorted(found.items()):
        if name not in there and not NVIDIA.match(name):
            digest = each["download_info"]["archive_info"]["hashes"]["sha256"]
            print(f"{name}=={each['metadata']['version']} \\\n    --hash=sha256:{digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
