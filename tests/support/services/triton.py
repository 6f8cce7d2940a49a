"""Triton with one model in Python, which scores rows by a weighted sum, so that a test knows what is right."""

import signal
import sys
import sysconfig
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.services.faults import Unavailable
from tests.support.services.replies import NotReady
from tests.support.services.system import Package, Site
from tests.support.services.wheels import WheelPackage

PACKAGE = WheelPackage("triton", "nvidia-pytriton==0.7.0", "2.51.0")
MODEL = "ranker"
ASK_S_MAX = 5.0
CONFIG = """
name: "ranker"
backend: "python"
input [{ name: "input" data_type: TYPE_FP32 dims: [ -1, -1 ] }]
output [{ name: "score" data_type: TYPE_FP32 dims: [ -1 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""
PROGRAM = """
import sys

sys.path.append(SITE)
import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for each in requests:
            rows = np.from_dlpack(triton.get_input_tensor_by_name(each, "input"))
            known = np.where(np.isnan(rows), -1.0, rows.astype(np.float64))
            score = (known @ np.arange(1.0, rows.shape[1] + 1.0)).astype(np.float32)
            answers.append(triton.InferenceResponse([triton.Tensor.from_dlpack("score", score)]))
        return answers
"""
"""Arrays go by DLPack: the server's own conversion was built before NumPy 2, and makes empty tensors of its arrays."""


@dataclass(frozen=True)
class Triton:
    """NVIDIA's server of models, without a GPU."""

    name: str = "triton"
    package: Package = PACKAGE
    port_names: Sequence[str] = ("http", "grpc")
    stop_signal: signal.Signals = signal.SIGTERM

    def prepare(self, site: Site) -> None:
        """Write the model, and put the program that runs it beside the backend, for this version of Python."""
        model = site.folder / "models" / MODEL
        (model / "1").mkdir(parents=True, exist_ok=True)
        (model / "config.pbtxt").write_text(CONFIG, "utf-8")
        numpy = str(Path(np.__file__).parents[1])
        (model / "1" / "model.py").write_text(PROGRAM.replace("SITE", repr(numpy)), "utf-8")
        backend = site.folder / "backends" / "python"
        backend.mkdir(parents=True, exist_ok=True)
        server = site.package / "pytriton" / "tritonserver"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
        for each in (*(server / "backends" / "python").iterdir(), stub):
            link = backend / each.name
            link.unlink(missing_ok=True)
            link.symlink_to(each)

    def command(self, site: Site) -> list[str]:
        """Return the command of the server, which finds the library of this Python."""
        library = Path(sysconfig.get_config_var("LIBDIR") or "")
        name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
        if not (library / name).exists():
            message = f"triton runs its model by {name}, which this machine's Python does not have"
            raise Unavailable(message)
        (program,) = site.package.rglob("bin/tritonserver")
        return [
            "env",
            f"LD_LIBRARY_PATH={library}",
            str(program),
            f"--model-repository={site.folder / 'models'}",
            f"--backend-directory={site.folder / 'backends'}",
            f"--http-address={site.host}",
            f"--http-port={site.ports['http']}",
            f"--grpc-address={site.host}",
            f"--grpc-port={site.ports['grpc']}",
            "--allow-metrics=false",
            "--disable-auto-complete-config",
        ]

    def ask(self, site: Site) -> None:
        """Ask whether the model is ready."""
        address = f"http://{site.host}:{site.ports['http']}/v2/models/{MODEL}/ready"
        with urllib.request.urlopen(address, timeout=ASK_S_MAX) as answer:
            if answer.status != 200:
                raise NotReady(str(answer.status))
