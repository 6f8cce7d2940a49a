"""Inference API of TorchServe, which is no longer developed: for models that are there, and no choice for new ones.

Whether a model can answer is what its workers say at the address of the management: ``/ping`` is healthy while a worker
dies again and again, and questions queue until then.

Reference: https://pytorch.org/serve/inference_api.html, management_api.html.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from midstream.core.types import Score
from midstream.integrations.model_servers.exchange import OK, AnswerInvalid, Call, ServerReply, json_of, require_ok
from midstream.integrations.model_servers.rows import json_numbers
from midstream.integrations.model_servers.target import Target
from midstream.integrations.model_servers.tensors import Numbers, of_json

HEADERS = {"content-type": "application/json"}
READY = "READY"


class _Worker(msgspec.Struct):
    status: str = ""


class _Model(msgspec.Struct):
    workers: list[_Worker] = []


class _Answer(msgspec.Struct):
    predictions: msgspec.Raw


class _Refusal(msgspec.Struct):
    message: str


@dataclass(frozen=True, slots=True)
class TorchServe:
    """What is sent to TorchServe, and what its answers mean."""

    of: Target

    @property
    def _model(self) -> str:
        return f"{self.of.model}/{self.of.version}" if self.of.version else self.of.model

    def ready_call(self) -> Call:
        """Ask for the states of the model's workers, at the address of the management."""
        return Call(f"/models/{self._model}")

    def unready(self, reply: ServerReply) -> str:
        """Return why the model is not ready; empty = it is."""
        require_ok(_plain(reply))
        states = [worker.status for each in json_of(reply.body, list[_Model]) for worker in each.workers]
        return "" if READY in states else f"none of its workers is ready: {', '.join(states[:4]) or 'there is none'}"

    def call(self, names: Sequence[str], rows: Score) -> Call:
        """Ask for a score of each row."""
        body = msgspec.json.encode({"instances": json_numbers(rows)})
        return Call(f"/predictions/{self._model}", body, HEADERS)

    def numbers(self, reply: ServerReply) -> Numbers:
        """Return the numbers of an answer: a list of them, or one by the name of ``predictions``.

        Raises:
            AnswerInvalid: It is no answer with numbers.
        """
        require_ok(_plain(reply))
        if reply.body.lstrip()[:1] == b"{":
            return of_json(json_of(reply.body, _Answer).predictions)
        return of_json(msgspec.Raw(reply.body))


def _plain(reply: ServerReply) -> ServerReply:
    """Return a refusal with its message alone: the name of an exception before it would fill the room of a reason."""
    if reply.status == OK:
        return reply
    try:
        message = json_of(reply.body, _Refusal).message
    except AnswerInvalid:  # of a proxy in front, or of a handler of one's own
        return reply
    return ServerReply(reply.status, reply.headers, message.encode("utf-8", "replace"))
