"""Prediction API of TensorFlow Serving over REST; KServe's first protocol has the same rows and answers.

Reference: https://www.tensorflow.org/tfx/serving/api_rest; https://kserve.github.io/website/, "V1 protocol".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from midstream.core.types import Score
from midstream.integrations.model_servers.exchange import AnswerInvalid, Call, ServerReply, json_of, require_ok
from midstream.integrations.model_servers.rows import json_numbers, tensors_of
from midstream.integrations.model_servers.target import Target
from midstream.integrations.model_servers.tensors import Numbers, of_json

AVAILABLE = "AVAILABLE"
HEADERS = {"content-type": "application/json"}


class _Version(msgspec.Struct):
    state: str = ""


class _Status(msgspec.Struct):
    model_version_status: list[_Version] = []
    name: str = ""
    ready: bool | str = False
    """Of KServe, which has no versions."""


class _Answer(msgspec.Struct):
    predictions: msgspec.Raw = msgspec.Raw(b"")
    outputs: msgspec.Raw = msgspec.Raw(b"")


@dataclass(frozen=True, slots=True)
class TensorFlowRest:
    """What is sent to a server of the API, and what its answers mean."""

    of: Target

    @property
    def _path(self) -> str:
        version = f"/versions/{self.of.version}" if self.of.version else ""
        return f"/v1/models/{self.of.model}{version}"

    def ready_call(self) -> Call:
        """Ask for the states of the model's versions."""
        return Call(self._path)

    def unready(self, reply: ServerReply) -> str:
        """Return why the model is not ready; empty = it is."""
        require_ok(reply)
        told = json_of(reply.body, _Status)
        states = [each.state for each in told.model_version_status]
        is_ready = AVAILABLE in states or str(told.ready).lower() == "true"
        return "" if is_ready else f"no version of the model is available: {', '.join(states[:4]) or 'there is none'}"

    def call(self, names: Sequence[str], rows: Score) -> Call:
        """Ask for a score of each row: rows where there is one tensor, else columns by name."""
        more = {"signature_name": self.of.signature} if self.of.signature else {}
        tensors = tensors_of(self.of, names, rows)
        asked: dict[str, Any] = (
            {"instances": json_numbers(tensors[0].rows)}
            if self.of.layout == "matrix"
            else {"inputs": {each.name: json_numbers(each.rows) for each in tensors}}
        )
        return Call(f"{self._path}:predict", msgspec.json.encode(more | asked), HEADERS)

    def numbers(self, reply: ServerReply) -> Numbers:
        """Return the numbers of an answer.

        Raises:
            AnswerInvalid: It is no answer with numbers.
        """
        require_ok(reply)
        answer = json_of(reply.body, _Answer)
        told = bytes(answer.predictions or answer.outputs)
        if not told:
            raise AnswerInvalid("neither predictions nor outputs came")
        if answer.predictions and told.lstrip()[1:].lstrip()[:1] == b"{":
            return _columns_of(json_of(told, list[dict[str, msgspec.Raw]]), self.of)
        if told.lstrip()[:1] == b"{":
            outputs = json_of(told, dict[str, msgspec.Raw])
            for name, each in outputs.items():
                if self.of.is_output(name, len(outputs)):
                    return of_json(each)
            raise self.of.no_output(", ".join(list(outputs)[:8]))
        return of_json(msgspec.Raw(told))


def _columns_of(rows: Sequence[dict[str, msgspec.Raw]], target: Target) -> Numbers:
    """Return the wanted output of rows that have several, each by its name."""
    wanted = list[bytes]()
    for row in rows:
        found = [bytes(each) for name, each in row.items() if target.is_output(name, len(row))]
        if len(found) != 1:
            raise target.no_output(", ".join(list(row)[:8]))
        wanted.append(found[0])
    return of_json(msgspec.Raw(b"[" + b",".join(wanted) + b"]"))
