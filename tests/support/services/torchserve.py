"""TorchServe with the model of Triton: its front in Java, and one worker in Python, which imports PyTorch.

The front is run without its launcher, whose file of the pid is one for the whole machine.
"""

import json
import re
import signal
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.services.beside import BesideLibrary
from tests.support.services.faults import ServiceFault, Unavailable
from tests.support.services.java import find_java, java_options
from tests.support.services.oip_servers import ASK_S_MAX, MODEL, SCORES, python
from tests.support.services.replies import NotReady
from tests.support.services.system import Package, Site
from tests.support.services.wheels import LibraryPackage

PACKAGE = LibraryPackage("torchserve", "torchserve==0.12.0", "0.12.0")
TORCH = BesideLibrary("torch")
DIRECT_MB = 128
"""Memory of what comes and goes, which is none of the heap."""
WORKER_S_MAX = 120
"""Until a worker that starts or computes is given up: it imports PyTorch first."""
HANDLER = """
import json

import numpy as np

SCORES

def handle(requests, context):
    if requests is None:
        return None
    return [answer(each.get("body") or each.get("data")) for each in requests]


def answer(body):
    told = json.loads(body) if isinstance(body, (bytes, bytearray, str)) else body
    return scores(np.array(told["instances"], dtype=np.float32)).tolist()
"""
"""A handler is asked once without requests, when its worker starts."""
MANIFEST = {
    "createdOn": "01/01/2026 00:00:00",
    "runtime": "python",
    "model": {"modelName": MODEL, "handler": "weighted.py", "modelVersion": "1.0"},
    "archiverVersion": "0.12.0",
}


@dataclass(frozen=True)
class TorchServe:
    """PyTorch's server of models, whose last release this is."""

    name: str = "torchserve"
    package: Package = PACKAGE
    port_names: Sequence[str] = ("http", "management", "metrics", "grpc", "grpc_management", "worker")
    stop_signal: signal.Signals = signal.SIGTERM
    heap_mb: int = 128
    is_brief: bool = True

    def prepare(self, site: Site) -> None:
        """Write the model as a folder, and where the server listens."""
        model = site.folder / "models" / MODEL
        (model / "MAR-INF").mkdir(parents=True, exist_ok=True)
        (model / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(MANIFEST), "utf-8")
        (model / "weighted.py").write_text(HANDLER.replace("SCORES", SCORES), "utf-8")
        told = {
            **{f"{each}_address": f"http://{site.host}:{site.ports[port]}" for each, port in _ADDRESSES.items()},
            **{f"{each}_address": site.host for each in ("grpc_inference", "grpc_management")},
            "grpc_inference_port": site.ports["grpc"],
            "grpc_management_port": site.ports["grpc_management"],
            "initial_worker_port": site.ports["worker"],
            "default_workers_per_model": 1,
            "default_response_timeout": WORKER_S_MAX,
            "default_startup_timeout": WORKER_S_MAX,
            "number_of_gpu": 0,
            "number_of_netty_threads": 2,
            "netty_client_threads": 1,
            "disable_token_authorization": "true",
            "disable_system_metrics": "true",
            "load_models": MODEL,
        }
        site.write("config.properties", "".join(f"{name}={value}\n" for name, value in told.items()))

    def command(self, site: Site) -> list[str]:
        """Return the command of the front.

        Raises:
            Unavailable: Its Java, or the PyTorch of its worker, is missing.
        """
        if not (TORCH.folder / "torch").is_dir():
            message = (
                "torch, which a worker of TorchServe imports, is not installed; scripts/test-integrations installs it"
            )
            raise Unavailable(message)
        *before, interpreter = python(site)
        return [
            *(*before[:-1], f"{before[-1]}:{TORCH.folder}", "OMP_NUM_THREADS=1"),
            # PyTorch has no bytecode where it is installed: that of the first start is kept for the next.
            *("PYTHONDONTWRITEBYTECODE=", f"PYTHONPYCACHEPREFIX={site.folder / 'bytecode'}"),
            find_java(range(17, 26), "17 or newer"),
            *java_options(self.heap_mb, is_brief=self.is_brief),
            f"-XX:MaxDirectMemorySize={DIRECT_MB}m",
            f"-Djava.io.tmpdir={site.data}",
            f"-Dmodel_server_home={site.package}",
            *("-cp", f"{site.package}/ts/frontend/*", "org.pytorch.serve.ModelServer"),
            *("--python", interpreter, "-f", str(site.folder / "config.properties")),
            *("-s", str(site.folder / "models"), "-ncs", "--disable-token-auth"),
        ]

    def ask(self, site: Site) -> None:
        """Ask for the states of the model's workers.

        Raises:
            NotReady: None is ready.
            ServiceFault: None ever will be.
        """
        address = f"http://{site.host}:{site.ports['management']}/models/{MODEL}"
        with urllib.request.urlopen(address, timeout=ASK_S_MAX) as answer:
            states = [worker["status"] for each in json.load(answer) for worker in each["workers"]]
        if "READY" not in states:
            require_importable((site.folder / "log").read_text("utf-8", "replace"))
            raise NotReady(f"workers: {states}")


def require_importable(log: str) -> None:
    """Refuse a server whose worker cannot import what it needs: it is started again and again, for minutes.

    Raises:
        ServiceFault: That is in the log.
    """
    found = re.search(r"MODEL_LOG - ((?:Import|ModuleNotFound|OS)Error: .*)", log)
    if found:
        message = f"a worker of TorchServe cannot start: {found[1]}"
        raise ServiceFault(message)


_ADDRESSES = {"inference": "http", "management": "management", "metrics": "metrics"}
"""Of each address of HTTP: the name of its port."""
