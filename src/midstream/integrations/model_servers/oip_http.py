"""Open Inference Protocol v2 over HTTP, in JSON or with the binary tensor extension: Triton, KServe, MLServer.

A server may answer a binary question in JSON and the other way round: what came says which it is.

Reference: https://github.com/kserve/open-inference-protocol, inference_rest.md;
    https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from midstream.core.types import Score
from midstream.integrations.model_servers.exchange import (
    OK,
    AnswerInvalid,
    Call,
    ServerReply,
    json_of,
    require_ok,
    shown,
)
from midstream.integrations.model_servers.rows import SentTensor, json_numbers, tensors_of
from midstream.integrations.model_servers.target import Target
from midstream.integrations.model_servers.tensors import Numbers, of_bytes, of_json, require_float, reshaped

HEADER_LENGTH = "inference-header-content-length"
"""Bytes of JSON before those of the tensors."""
_DIGITS_MAX = 10


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw = msgspec.Raw(b"")
    parameters: dict[str, Any] | None = None


class _Answer(msgspec.Struct):
    outputs: list[_Output]


class _Tensor(msgspec.Struct):
    name: str
    datatype: str = ""
    shape: list[int] = []


class _Metadata(msgspec.Struct):
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []


@dataclass(frozen=True, slots=True)
class OipHttp:
    """What is sent to a server of the protocol, and what its answers mean."""

    of: Target

    @property
    def _path(self) -> str:
        version = f"/versions/{self.of.version}" if self.of.version else ""
        return f"/v2/models/{self.of.model}{version}"

    def ready_call(self) -> Call:
        """Ask whether the model is ready."""
        return Call(f"{self._path}/ready")

    def unready(self, reply: ServerReply) -> str:
        """Return why the model is not ready; empty = it is."""
        return "" if reply.status == OK else f"it answered {reply.status}: {shown(reply.body)}".rstrip(" :")

    def call(self, names: Sequence[str], rows: Score) -> Call:
        """Ask for a score of each row."""
        tensors = tensors_of(self.of, names, rows)
        target = f"{self._path}/infer"
        if self.of.encoding == "json":
            inputs = [{**_head(each), "data": json_numbers(each.rows.ravel())} for each in tensors]
            return Call(target, msgspec.json.encode({"inputs": inputs, **self._outputs()}), _JSON)
        inputs = [{**_head(each), "parameters": {"binary_data_size": each.rows.nbytes}} for each in tensors]
        head = msgspec.json.encode({"inputs": inputs, **self._outputs()})
        headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
        return Call(target, b"".join((head, *(each.rows.tobytes() for each in tensors))), headers)

    def numbers(self, reply: ServerReply) -> Numbers:
        """Return the numbers of an answer.

        Raises:
            AnswerInvalid: It is no answer with numbers.
        """
        require_ok(reply)
        size = _head_size(reply)
        answer = json_of(reply.body[:size], _Answer)
        rest, at = memoryview(reply.body)[size:], 0
        for each in answer.outputs:
            binary = (each.parameters or {}).get("binary_data_size")
            begin = at
            if binary is not None:
                if type(binary) is not int or not 0 <= binary <= len(rest) - at:
                    raise AnswerInvalid(f"an output of {str(binary)[:20]} bytes came where {len(rest) - at} are left")
                at += binary
            if self.of.is_output(each.name, len(answer.outputs)):
                return _numbers(each, None if binary is None else rest[begin:at])
        names = ", ".join(each.name for each in answer.outputs[:8])
        raise self.of.no_output(names)

    def metadata_call(self) -> Call:
        """Ask for the names and shapes of the model's tensors."""
        return Call(self._path)

    def misfits(self, reply: ServerReply, names: Sequence[str]) -> str:
        """Return what of the model's tensors does not fit; empty = nothing."""
        require_ok(reply)
        told = json_of(reply.body, _Metadata)
        inputs = {each.name: (each.datatype, each.shape) for each in told.inputs}
        return self.of.misfits(names, inputs, [each.name for each in told.outputs])

    def _outputs(self) -> dict[str, object]:
        """Return which output is wanted, and how."""
        is_binary = self.of.encoding == "binary"
        if self.of.output:
            more = {"parameters": {"binary_data": True}} if is_binary else {}
            return {"outputs": [{"name": self.of.output, **more}]}
        return {"parameters": {"binary_data_output": True}} if is_binary else {}


_JSON = {"content-type": "application/json"}


def _head(tensor: SentTensor) -> dict[str, object]:
    return {"name": tensor.name, "shape": list(tensor.rows.shape), "datatype": "FP32"}


def _head_size(reply: ServerReply) -> int:
    """Return the bytes of JSON of an answer."""
    told = reply.headers.get(HEADER_LENGTH)
    if told is None:
        return len(reply.body)
    if not (told.isdecimal() and len(told) <= _DIGITS_MAX) or int(told) > len(reply.body):
        raise AnswerInvalid(f"{told[:20]} bytes of JSON came where all have {len(reply.body)}")
    return int(told)


def _numbers(output: _Output, content: memoryview | None) -> Numbers:
    kind = require_float(output.datatype)
    if content is not None:
        return of_bytes(content, kind, output.shape)
    return reshaped(of_json(output.data), output.shape)
