"""KServe's server and MLServer with the model of Triton, in processes of their own: other servers of one protocol.

Both are Python, run by that of the tests with their own libraries in front of those of the environment.
"""

import json
import signal
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.services.faults import Unavailable
from tests.support.services.replies import NotReady
from tests.support.services.system import Package, Site
from tests.support.services.wheels import PYTHON, LibraryPackage

KSERVE = LibraryPackage("kserve", "kserve==0.21.0", "0.21.0")
MLSERVER = LibraryPackage("mlserver", "mlserver==1.7.1", "1.7.1")
MODEL = "ranker"
ASK_S_MAX = 5.0
TENSORS = {
    "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, -1]}],
    "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1]}],
}
SCORES = """
def scores(rows):
    known = np.where(np.isnan(rows), -1.0, rows.astype(np.float64))
    return (known @ np.arange(1.0, rows.shape[1] + 1.0)).astype(np.float32)
"""
KSERVE_PROGRAM = """
import sys
from importlib.metadata import version

import kserve
import numpy as np
import pandas
import uvicorn
from grpc.aio import _server
from kserve.utils.utils import get_predict_response

HTTP_PORT, GRPC_PORT, HOST = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
SCORES

class Config(uvicorn.Config):
    def __init__(self, app, host, **named):
        super().__init__(app, host=HOST, **named)


class Server(_server.Server):
    def add_insecure_port(self, address):
        return super().add_insecure_port(address.replace("[::]", HOST))


uvicorn.Config, _server.Server = Config, Server


class Ranker(kserve.Model):
    def __init__(self):
        super().__init__("ranker")
        self.ready = True

    async def get_input_types(self):
        return TENSORS["inputs"]

    async def get_output_types(self):
        return TENSORS["outputs"]

    def predict(self, payload, headers=None, response_headers=None):
        table = pandas.DataFrame({"score": scores(payload.inputs[0].as_numpy())})
        return get_predict_response(payload, table, self.name)


print("KServe version", version("kserve"), flush=True)
kserve.ModelServer(http_port=HTTP_PORT, grpc_port=GRPC_PORT, workers=1).start([Ranker()])
"""
"""KServe has no option for its address, which is any of the machine: what it listens with is given that of loopback."""
MLSERVER_MODEL = """
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

SCORES

class Ranker(MLModel):
    async def predict(self, payload):
        found = NumpyCodec.encode_output("score", scores(NumpyCodec.decode_input(payload.inputs[0])))
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=[found])
"""
MLSERVER_PROGRAM = """
import mlserver
from mlserver.cli import main

print("MLServer version", mlserver.__version__, flush=True)
main()
"""


@dataclass(frozen=True)
class KServe:
    """The server of models that KServe's own images are made of."""

    name: str = "kserve"
    package: Package = KSERVE
    port_names: Sequence[str] = ("http", "grpc")
    stop_signal: signal.Signals = signal.SIGTERM

    def prepare(self, site: Site) -> None:
        """Write the program of the model and the server."""
        site.write("serve.py", KSERVE_PROGRAM.replace("SCORES", SCORES).replace("TENSORS", repr(TENSORS)))

    def command(self, site: Site) -> list[str]:
        """Return the command of the program."""
        ports = (str(site.ports[each]) for each in self.port_names)
        return [*python(site), str(site.folder / "serve.py"), *ports, site.host]

    def ask(self, site: Site) -> None:
        """Ask whether the model is ready."""
        ask_ready(site)


@dataclass(frozen=True)
class MLServer:
    """Seldon's server of models."""

    name: str = "mlserver"
    package: Package = MLSERVER
    port_names: Sequence[str] = ("http", "grpc")
    stop_signal: signal.Signals = signal.SIGTERM

    def prepare(self, site: Site) -> None:
        """Write the model, and where it listens."""
        model = site.folder / "models" / MODEL
        model.mkdir(parents=True, exist_ok=True)
        (model / "weighted.py").write_text(MLSERVER_MODEL.replace("SCORES", SCORES), "utf-8")
        told = {"name": MODEL, "implementation": "weighted.Ranker", **TENSORS}
        (model / "model-settings.json").write_text(json.dumps(told), "utf-8")
        ports = {"http_port": site.ports["http"], "grpc_port": site.ports["grpc"]}
        more = {"metrics_endpoint": None, "parallel_workers": 0, "debug": False}
        (site.folder / "models" / "settings.json").write_text(json.dumps({"host": site.host, **ports, **more}), "utf-8")

    def command(self, site: Site) -> list[str]:
        """Return the command of the server."""
        return [*python(site), "-c", MLSERVER_PROGRAM, "start", str(site.folder / "models")]

    def ask(self, site: Site) -> None:
        """Ask whether the model is ready."""
        ask_ready(site)


def python(site: Site) -> list[str]:
    """Return the command of this Python with the libraries of a server in front of its own.

    Raises:
        Unavailable: They are for another version of it.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version != PYTHON:
        message = f"its libraries are for Python {PYTHON}, and this is {version}"
        raise Unavailable(message)
    return ["env", f"PYTHONPATH={site.package}", sys.executable]


def ask_ready(site: Site) -> None:
    """Ask whether the model is ready.

    Raises:
        NotReady: It says that it is not.
    """
    address = f"http://{site.host}:{site.ports['http']}/v2/models/{MODEL}/ready"
    with urllib.request.urlopen(address, timeout=ASK_S_MAX) as answer:
        if answer.status != 200:
            raise NotReady(str(answer.status))
