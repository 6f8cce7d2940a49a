"""Prediction and model services of TensorFlow Serving over gRPC, by the numbers of their fields.

Rows go as ``tensor_content``, which costs a copy; scores come as that or as ``float_val``, as the server likes.

Reference: https://github.com/tensorflow/serving, tensorflow_serving/apis/predict.proto, model.proto,
    get_model_status.proto; https://github.com/tensorflow/tensorflow, tensorflow/core/framework/tensor.proto.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from midstream.core.types import Score
from midstream.integrations.model_servers.exchange import AnswerInvalid, Call, ServerReply
from midstream.integrations.model_servers.messages import (
    DIMENSIONS_READ_MAX,
    FIELDS_MAX,
    OUTPUTS_MAX,
    Budget,
    Field,
    bytes_field,
    bytes_of,
    floats_of,
    number_field,
    number_of,
    read,
    text_of,
    written,
)
from midstream.integrations.model_servers.rows import SentTensor, tensors_of
from midstream.integrations.model_servers.target import Target
from midstream.integrations.model_servers.tensors import Numbers, of_bytes, reshaped

PREDICT, STATUS = "/tensorflow.serving.PredictionService/Predict", "/tensorflow.serving.ModelService/GetModelStatus"
# PredictRequest, and its model.
SPEC, INPUTS, FILTER = 1, 2, 3
NAME, VERSION, SIGNATURE = 1, 2, 3
# PredictResponse, and the entries of its map.
OUTPUTS = 1
KEY, VALUE = 1, 2
# TensorProto, its shape, and the dimensions of that.
DTYPE, SHAPE, CONTENT, FLOAT_VAL, DOUBLE_VAL = 1, 2, 4, 5, 6
DIM, UNKNOWN_RANK = 2, 3
SIZE = 1
# GetModelStatusResponse.
VERSIONS, STATE = 1, 2
AVAILABLE = 30
DT_FLOAT, DT_DOUBLE, DT_HALF = 1, 2, 19
_KINDS = {DT_FLOAT: "<f4", DT_DOUBLE: "<f8", DT_HALF: "<f2"}
_TYPED = {DT_FLOAT: FLOAT_VAL, DT_DOUBLE: DOUBLE_VAL}


@dataclass(frozen=True, slots=True)
class TensorFlowGrpc:
    """What is sent to a server of the services, and what its answers mean."""

    of: Target

    def ready_call(self) -> Call:
        """Ask for the states of the model's versions."""
        return Call(STATUS, written([bytes_field(SPEC, self._spec(is_asked_for_scores=False))]))

    def unready(self, reply: ServerReply) -> str:
        """Return why the model is not ready; empty = it is."""
        budget = Budget(FIELDS_MAX)
        versions = [list(read(bytes_of(each), budget)) for each in read(reply.body, budget) if each[0] == VERSIONS]
        is_ready = any(each[0] == STATE and number_of(each) == AVAILABLE for version in versions for each in version)
        return "" if is_ready else f"none of {len(versions)} versions of the model is available"

    def call(self, names: Sequence[str], rows: Score) -> Call:
        """Ask for a score of each row."""
        parts = [bytes_field(SPEC, self._spec(is_asked_for_scores=True))]
        tensors = [(each.name, _tensor(each)) for each in tensors_of(self.of, names, rows)]
        entries = (written([bytes_field(KEY, name), bytes_field(VALUE, each)]) for name, each in tensors)
        parts.extend(bytes_field(INPUTS, each) for each in entries)
        if self.of.output:
            parts.append(bytes_field(FILTER, self.of.output))
        return Call(PREDICT, written(parts))

    def numbers(self, reply: ServerReply) -> Numbers:
        """Return the numbers of an answer.

        Raises:
            AnswerInvalid: It is no answer with numbers.
        """
        outputs, budget = dict[str, memoryview](), Budget(FIELDS_MAX)
        for each in read(reply.body, budget):
            if each[0] == OUTPUTS:
                entry = {part[0]: part for part in read(bytes_of(each), budget)}
                if KEY in entry and VALUE in entry:
                    outputs[text_of(entry[KEY])] = bytes_of(entry[VALUE])
                if len(outputs) > OUTPUTS_MAX:
                    raise AnswerInvalid(f"more than {OUTPUTS_MAX} outputs came")
        for name, tensor in outputs.items():
            if self.of.is_output(name, len(outputs)):
                return _numbers(list(read(tensor, budget)), budget)
        raise self.of.no_output(", ".join(list(outputs)[:8]))

    def _spec(self, *, is_asked_for_scores: bool) -> bytes:
        """Return which model is meant; a state is of no signature."""
        parts = [bytes_field(NAME, self.of.model)]
        if self.of.version:
            parts.append(bytes_field(VERSION, written([number_field(1, int(self.of.version))])))
        if self.of.signature and is_asked_for_scores:
            parts.append(bytes_field(SIGNATURE, self.of.signature))
        return written(parts)


def _tensor(tensor: SentTensor) -> bytes:
    dims = [bytes_field(DIM, written([number_field(SIZE, each)])) for each in tensor.rows.shape]
    return written(
        [
            number_field(DTYPE, DT_FLOAT),
            bytes_field(SHAPE, written(dims)),
            bytes_field(CONTENT, tensor.rows.tobytes()),
        ]
    )


def _numbers(tensor: Sequence[Field], budget: Budget) -> Numbers:
    """Return the numbers of a tensor."""
    dtype = next((number_of(each) for each in tensor if each[0] == DTYPE), 0)
    kind = _KINDS.get(dtype)
    if kind is None:
        raise AnswerInvalid(f"numbers of type {dtype} came where DT_FLOAT, DT_DOUBLE and DT_HALF are right")
    told = [part for each in tensor if each[0] == SHAPE for part in read(bytes_of(each), budget)]
    shape = _shape(told, budget)
    content = b"".join(bytes(bytes_of(each)) for each in tensor if each[0] == CONTENT)
    if content or dtype not in _TYPED:
        return of_bytes(content, kind, shape)
    return reshaped(floats_of([each for each in tensor if each[0] == _TYPED[dtype]], np.dtype(kind).str), shape)


def _shape(told: Sequence[Field], budget: Budget) -> list[int]:
    if any(each[0] == UNKNOWN_RANK and number_of(each) for each in told):
        raise AnswerInvalid("a tensor without a shape came")
    found = [bytes_of(each) for each in told if each[0] == DIM]
    if len(found) > DIMENSIONS_READ_MAX:
        raise AnswerInvalid(f"a shape of {len(found)} dimensions came")
    dims = [list(read(each, budget)) for each in found]
    return [next((number_of(part) for part in dim if part[0] == SIZE), 0) for dim in dims]
