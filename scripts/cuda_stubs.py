"""Libraries of CUDA that answer nothing, for PyTorch on a machine without a GPU: 3 GB less to fetch and to unpack.

The wheel of PyTorch on PyPI names a dozen libraries of NVIDIA that the loader wants to find, and calls none of them
where there is no device. Each that is not in the folder is compiled here with all the functions that PyTorch names, and
each of these gives an error. The runtime (``libcudart``) is real: it is asked for the number of devices.

``python scripts/cuda_stubs.py FOLDER``, where FOLDER was made by ``pip install --target``; needs gcc and binutils.
"""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

FUNCTIONS = re.compile(r"^(?:cublas|cudnn|cufft|cusolver|cusparse|nccl|nvrtc|nvshmem|cuFile|cupti)\w*$")
LIBRARIES = re.compile(r"\[(lib(?:cublas|cudnn|cufft|cufile|cupti|cusolver|cusparse|nccl|nvrtc|nvshmem)\S*)\]")
VERSIONS = re.compile(r"File: (\S+)\s+Cnt: 1\n.*?Name: (\S+)")
UNKNOWN = 999
"""What each function returns: no library of NVIDIA has this as its success."""


def main(folder: Path) -> int:
    """Write what is missing beside PyTorch's own libraries, and say how many those are."""
    own = folder / "torch" / "lib"
    libraries = sorted(own.glob("*.so"))
    # Those of an earlier run are written again.
    there = {each.name for each in folder.rglob("*.so*") if each.parent != own}
    told = [said("readelf", "-d", str(each)) for each in libraries]
    wanted = sorted({name for each in told for name in LIBRARIES.findall(each)} - there)
    named = {line.split()[-1].partition("@")[0] for each in libraries for line in undefined(each)}
    # The loader looks for the functions of some under a version, one a library.
    versioned = dict(found for each in libraries for found in VERSIONS.findall(said("readelf", "-V", "-W", str(each))))
    code = "".join(f"int {name}(void) {{ return {UNKNOWN}; }}\n" for name in sorted(filter(FUNCTIONS.match, named)))
    with TemporaryDirectory() as place:
        source, versions = Path(place) / "stub.c", Path(place) / "stub.map"
        source.write_text(code, "utf-8")
        for name in wanted:
            versions.write_text(f"{versioned.get(name, name)} {{ global: *; }};\n", "utf-8")
            target = own / name
            said(
                "gcc", "-shared", "-nostdlib", "-O1", f"-Wl,-soname,{name}", f"-Wl,--version-script={versions}",
                "-o", str(target), str(source),
            )  # fmt: skip
    print(f"cuda_stubs: {len(wanted)} libraries in {folder}")
    return 0


def undefined(library: Path) -> list[str]:
    """Return a line for each function that a library takes from others."""
    return said("nm", "-D", "--undefined-only", str(library)).splitlines()


def said(*command: str) -> str:
    """Return what a program printed; its failure is ours."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
