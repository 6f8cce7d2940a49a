"""A model behind each protocol: scores of the rows that came, or something else, as the mode of the model says."""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.model_servers.messages import message

Rows = NDArray[np.float32]
NAMES = {"<f2": "FP16", "<f4": "FP32", "<f8": "FP64", "<i8": "INT64"}
HEADER_LENGTH = "inference-header-content-length"


def right_scores(rows: Rows) -> NDArray[np.float64]:
    """Return what the model says of rows: a weighted sum, in which what is missing counts as -1."""
    known = np.where(np.isnan(rows), -1.0, rows.astype(np.float64))
    total: NDArray[np.float64] = known @ np.arange(1.0, rows.shape[1] + 1.0)
    return total


LIES: Mapping[str, Callable[[NDArray[np.float64]], NDArray[Any]]] = {
    "right": lambda told: told.astype("<f4"),
    "doubles": lambda told: told,
    "upright": lambda told: told.astype("<f4")[:, None],
    "classes": lambda told: np.stack([-told, told], axis=1).astype("<f4"),
    "short": lambda told: told[:-1].astype("<f4"),
    "long": lambda told: np.append(told, 0.0).astype("<f4"),
    "empty": lambda told: told[:0].astype("<f4"),
    "nan": lambda told: np.where(np.arange(len(told)) == len(told) // 2, np.nan, told).astype("<f4"),
    "infinite": lambda told: np.where(np.arange(len(told)) == 0, np.inf, told).astype("<f4"),
    "beyond": lambda told: told * 1e300,
    "integers": lambda told: told.astype("<i8"),
    "flat": lambda told: told.astype("<f4")[None, :],
    "deep": lambda told: told.astype("<f4")[:, None, None],
}
"""Of each mode: what a model answers instead of scores. The first three are right."""
REFUSAL = b"""{
  "code": 503,
  "type": "ServiceUnavailableException",
  "message": "Model \\"ranker\\" has no worker to serve inference request."
}"""
"""As TorchServe writes it."""
RIGHT = ("right", "doubles", "upright")


@dataclass
class Asked:
    """What came to a server."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Told:
    """What goes back."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass
class FakeModel:
    """A model of two columns or more; subclasses know a protocol."""

    mode: str = "right"
    """One of ``LIES``, or what else ``twisted`` or the server knows."""
    is_ready: bool = True
    asked: list[Asked] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)

    @property
    def answer(self) -> Callable[[NDArray[np.float64]], NDArray[Any]]:
        """Return what it makes of scores."""
        return LIES.get(self.mode, LIES["right"])

    def told(self, asked: Asked) -> Told:
        """Answer."""
        raise NotImplementedError

    def _told_of(self, rows: Rows) -> NDArray[Any]:
        self.rows.append(rows)
        return self.answer(right_scores(rows))


@dataclass
class OipHttpModel(FakeModel):
    """Open Inference Protocol over HTTP."""

    answers: str = "binary"

    def told(self, asked: Asked) -> Told:
        if asked.path.endswith("/ready"):
            return Told(b"", status=200 if self.is_ready else 503)
        if not asked.path.endswith("/infer"):
            return Told(json.dumps(self._metadata()).encode())
        size = int(asked.headers.get(HEADER_LENGTH, len(asked.body)))
        head, rest = json.loads(asked.body[:size]), asked.body[size:]
        columns = []
        for each in head["inputs"]:
            if "data" in each:
                told = np.array(each["data"], dtype="<f4")
            else:
                count = each["parameters"]["binary_data_size"]
                told, rest = np.frombuffer(rest[:count], dtype="<f4"), rest[count:]
            assert each["datatype"] == "FP32"
            columns.append(told.reshape(each["shape"]))
        return self._answered(self._told_of(np.concatenate(columns, axis=1)))

    def _metadata(self) -> dict[str, object]:
        return {
            "name": "ranker",
            "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 2]}],
            "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1]}],
        }

    def _answered(self, scores: NDArray[Any]) -> Told:
        output: dict[str, Any] = {
            "name": "score",
            "datatype": NAMES[scores.dtype.str],
            "shape": list(scores.shape),
        }
        other = {"name": "other", "datatype": "FP32", "shape": [1], "data": [1.0]}
        others = [other] if self.mode == "two outputs" else []
        if self.answers == "json":
            output["data"] = scores.tolist() if self.mode == "upright" else scores.ravel().tolist()
            return Told(json.dumps({"model_name": "ranker", "outputs": [output, *others]}).encode())
        output["parameters"] = {"binary_data_size": scores.nbytes + 4 * (self.mode == "longer than said")}
        head = json.dumps({"model_name": "ranker", "outputs": [output, *others]}).encode()
        length = len(head) + 1_000 * (self.mode == "head longer than said")
        return Told(head + scores.tobytes(), {HEADER_LENGTH: str(length)})


@dataclass
class OipGrpcModel(FakeModel):
    """The same over gRPC; ``answers``: raw as Triton, contents as KServe."""

    answers: str = "raw"

    def told(self, asked: Asked) -> Told:
        if asked.path.endswith("/ModelReady"):
            return Told(message("oip", "ModelReadyResponse", ready=self.is_ready).SerializeToString())
        if asked.path.endswith("/ModelMetadata"):
            tensor = message("oip", "TensorMetadata", name="input", datatype="FP32", shape=[-1, 2])
            score = message("oip", "TensorMetadata", name="score", datatype="FP32", shape=[-1])
            told = message("oip", "ModelMetadataResponse", name="ranker", inputs=[tensor], outputs=[score])
            return Told(told.SerializeToString())
        came = message("oip", "ModelInferRequest", asked.body)
        raw = [np.frombuffer(each, dtype="<f4") for each in came.raw_input_contents]
        columns = [each.reshape(list(head.shape)) for each, head in zip(raw, came.inputs, strict=True)]
        scores = self._told_of(np.concatenate(columns, axis=1))
        fields: dict[str, Any] = {"name": "score", "datatype": NAMES[scores.dtype.str], "shape": list(scores.shape)}
        kinds = {"<f4": "fp32_contents", "<f8": "fp64_contents", "<i8": "int64_contents"}
        if self.answers == "contents" or self.mode == "both":
            fields["contents"] = {kinds[scores.dtype.str]: scores.ravel().tolist()}
        raws = [scores.tobytes()] if self.answers == "raw" or self.mode == "both" else []
        outputs = [message("oip", "InferOutputTensor", **fields)]
        if self.mode == "two outputs":
            outputs.append(message("oip", "InferOutputTensor", name="other", datatype="FP32", shape=[0]))
        told = message("oip", "ModelInferResponse", model_name="ranker", outputs=outputs, raw_output_contents=raws)
        return Told(told.SerializeToString())


@dataclass
class TensorFlowRestModel(FakeModel):
    """TensorFlow Serving over REST."""

    def told(self, asked: Asked) -> Told:
        if asked.method == "GET":
            states = [{"version": "1", "state": "AVAILABLE" if self.is_ready else "LOADING"}]
            return Told(json.dumps({"model_version_status": states}).encode())
        came = json.loads(asked.body)
        if "instances" in came:
            rows = np.array(came["instances"], dtype="<f4")
        else:
            rows = np.concatenate([np.array(each, dtype="<f4") for each in came["inputs"].values()], axis=1)
        scores = self._told_of(rows).tolist()
        if "instances" not in came:
            return Told(json.dumps({"outputs": scores}).encode())
        if self.mode == "two outputs":
            return Told(json.dumps({"predictions": [{"score": each, "other": 1.0} for each in scores]}).encode())
        return Told(json.dumps({"predictions": scores}).encode())


@dataclass
class TensorFlowGrpcModel(FakeModel):
    """The same over gRPC; ``answers``: content or values."""

    answers: str = "content"

    def told(self, asked: Asked) -> Told:
        if asked.path.endswith("/GetModelStatus"):
            state = message("tensorflow", "ModelVersionStatus", version=1, state=30 if self.is_ready else 20)
            told = message("tensorflow", "GetModelStatusResponse", model_version_status=[state])
            return Told(told.SerializeToString())
        came = message("tensorflow", "PredictRequest", asked.body)
        columns = []
        for each in came.inputs:
            assert each.value.dtype == 1
            shape = [dim.size for dim in each.value.tensor_shape.dim]
            columns.append(np.frombuffer(each.value.tensor_content, dtype="<f4").reshape(shape))
        scores = self._told_of(np.concatenate(columns, axis=1))
        dtypes = {"<f4": (1, "float_val"), "<f8": (2, "double_val"), "<i8": (3, "int_val")}
        dtype, values = dtypes[scores.dtype.str]
        dims = [message("tensorflow", "Dim", size=each) for each in scores.shape]
        fields: dict[str, Any] = {"dtype": dtype, "tensor_shape": {"dim": dims}}
        if self.answers == "content":
            fields["tensor_content"] = scores.tobytes()
        else:
            fields[values] = scores.ravel().tolist()
        outputs = [
            message("tensorflow", "NamedTensor", key="score", value=message("tensorflow", "TensorProto", **fields))
        ]
        if self.mode == "two outputs":
            outputs.append(message("tensorflow", "NamedTensor", key="other", value={"dtype": 1}))
        return Told(message("tensorflow", "PredictResponse", outputs=outputs).SerializeToString())


@dataclass
class TorchServeModel(FakeModel):
    """TorchServe, its management at the same address."""

    def told(self, asked: Asked) -> Told:
        if asked.path.startswith("/models/"):
            workers = [{"id": "9000", "status": "READY" if self.is_ready else "UNLOADING"}]
            return Told(json.dumps([{"modelName": "ranker", "workers": workers}]).encode())
        if asked.path == "/ping":
            return Told(b'{"status": "Healthy"}')
        rows = np.array(json.loads(asked.body)["instances"], dtype="<f4")
        return Told(json.dumps(self._told_of(rows).tolist()).encode())


def twisted(told: Told, mode: str) -> Told:
    """Return an answer that is wrong as a whole, whatever it says."""
    answers = {
        "error": lambda: Told(b'{"error": "out of memory"}', status=500),
        "refusal": lambda: Told(REFUSAL, status=503),
        "garbage": lambda: Told(bytes(range(256)) * 4, told.headers),
        "half": lambda: Told(told.body[: len(told.body) // 2], told.headers),
        "nothing": lambda: Told(b""),
        "huge": lambda: Told(b"[" + b"1.0," * (1 << 20) + b"1.0]", told.headers),
        "nested": lambda: Told(b"[" * 200_000, told.headers),
        "gzip": lambda: Told(zlib.compress(told.body), {**told.headers, "content-encoding": "deflate"}),
        "elsewhere": lambda: Told(b"", {"location": "http://127.0.0.1:1/"}, status=307),
    }
    return answers.get(mode, lambda: told)()
