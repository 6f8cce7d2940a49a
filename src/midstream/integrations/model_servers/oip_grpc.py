"""Open Inference Protocol v2 over gRPC, by the numbers of its fields.

Scores come as ``raw_output_contents`` (Triton, always) or as typed ``contents`` (KServe, MLServer): both are read.

Reference: https://github.com/kserve/open-inference-protocol, open_inference_grpc.proto.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from midstream.core.types import Score
from midstream.integrations.model_servers.exchange import AnswerInvalid, Call, ServerReply
from midstream.integrations.model_servers.messages import (
    DIMENSIONS_READ_MAX,
    FIELDS_MAX,
    METADATA_FIELDS_MAX,
    OUTPUTS_MAX,
    Budget,
    Field,
    bytes_field,
    bytes_of,
    dimensions_of,
    floats_of,
    number_field,
    number_of,
    read,
    text_of,
    written,
)
from midstream.integrations.model_servers.rows import SentTensor, tensors_of
from midstream.integrations.model_servers.target import Target
from midstream.integrations.model_servers.tensors import Numbers, of_bytes, require_float, reshaped

SERVICE = "/inference.GRPCInferenceService"
# ModelInferRequest.
MODEL, VERSION, INPUTS, OUTPUTS, RAW_INPUTS = 1, 2, 5, 6, 7
# Its tensors, and those of the answer; of the metadata the same.
NAME, DATATYPE, SHAPE, CONTENTS = 1, 2, 3, 5
# ModelInferResponse.
OUTPUT, RAW_OUTPUTS = 5, 6
# InferTensorContents.
FP32_CONTENTS, FP64_CONTENTS = 6, 7
# ModelMetadataResponse.
META_INPUTS, META_OUTPUTS = 4, 5
_TYPED = {"FP32": FP32_CONTENTS, "FP64": FP64_CONTENTS}


@dataclass(slots=True)
class _Output:
    """A tensor of an answer, or of the metadata."""

    name: str = ""
    datatype: str = ""
    shape: list[int] = field(default_factory=list[int])
    contents: list[Field] = field(default_factory=list[Field])


@dataclass(frozen=True, slots=True)
class OipGrpc:
    """What is sent to a server of the protocol, and what its answers mean."""

    of: Target

    @property
    def _model(self) -> list[Field]:
        version = [bytes_field(VERSION, self.of.version)] if self.of.version else []
        return [bytes_field(MODEL, self.of.model), *version]

    def ready_call(self) -> Call:
        """Ask whether the model is ready."""
        return Call(f"{SERVICE}/ModelReady", written(self._model))

    def unready(self, reply: ServerReply) -> str:
        """Return why the model is not ready; empty = it is."""
        is_ready = any(each[0] == 1 and number_of(each) for each in read(reply.body, Budget(FIELDS_MAX)))
        return "" if is_ready else f"the model {self.of.model} is not ready"

    def call(self, names: Sequence[str], rows: Score) -> Call:
        """Ask for a score of each row."""
        tensors = tensors_of(self.of, names, rows)
        outputs = [bytes_field(OUTPUTS, written([bytes_field(NAME, self.of.output)]))] if self.of.output else []
        heads = [bytes_field(INPUTS, _head(each)) for each in tensors]
        raw = [bytes_field(RAW_INPUTS, each.rows.tobytes()) for each in tensors]
        return Call(f"{SERVICE}/ModelInfer", written([*self._model, *heads, *outputs, *raw]))

    def numbers(self, reply: ServerReply) -> Numbers:
        """Return the numbers of an answer.

        Raises:
            AnswerInvalid: It is no answer with numbers.
        """
        outputs, raw, budget = list[_Output](), list[memoryview](), Budget(FIELDS_MAX)
        for each in read(reply.body, budget):
            if each[0] == OUTPUT:
                if len(outputs) == OUTPUTS_MAX:
                    raise AnswerInvalid(f"more than {OUTPUTS_MAX} outputs came")
                outputs.append(_output(bytes_of(each), budget))
            elif each[0] == RAW_OUTPUTS:
                raw.append(bytes_of(each))
        for place, output in enumerate(outputs):
            if self.of.is_output(output.name, len(outputs)):
                return _numbers(output, raw[place] if place < len(raw) else None)
        raise self.of.no_output(", ".join(each.name for each in outputs[:8]))

    def metadata_call(self) -> Call:
        """Ask for the names and shapes of the model's tensors."""
        return Call(f"{SERVICE}/ModelMetadata", written(self._model))

    def misfits(self, reply: ServerReply, names: Sequence[str]) -> str:
        """Return what of the model's tensors does not fit; empty = nothing."""
        inputs, outputs = dict[str, tuple[str, Sequence[int]]](), list[str]()
        budget = Budget(METADATA_FIELDS_MAX)
        for each in read(reply.body, budget):
            if each[0] == META_INPUTS:
                told = _output(bytes_of(each), budget)
                inputs[told.name] = (told.datatype, told.shape)
            elif each[0] == META_OUTPUTS:
                outputs.append(_output(bytes_of(each), budget).name)
        return self.of.misfits(names, inputs, outputs)


def _head(tensor: SentTensor) -> bytes:
    shape = [number_field(SHAPE, each) for each in tensor.rows.shape]
    return written([bytes_field(NAME, tensor.name), bytes_field(DATATYPE, "FP32"), *shape])


def _output(content: memoryview, budget: Budget) -> _Output:
    found = _Output()
    for each in read(content, budget):
        if each[0] == NAME:
            found.name = text_of(each)
        elif each[0] == DATATYPE:
            found.datatype = text_of(each)
        elif each[0] == SHAPE:
            found.shape += dimensions_of(each)
            if len(found.shape) > DIMENSIONS_READ_MAX:
                raise AnswerInvalid(f"a shape of more than {DIMENSIONS_READ_MAX} dimensions came")
        elif each[0] == CONTENTS:
            found.contents.extend(read(bytes_of(each), budget))
    return found


def _numbers(output: _Output, raw: memoryview | None) -> Numbers:
    """Return the numbers of one output, from its raw bytes where there are some."""
    kind = require_float(output.datatype)
    if raw is not None and not output.contents:
        return of_bytes(raw, kind, output.shape)
    if raw is not None and len(raw):
        raise AnswerInvalid(f"output {output.name[:32]} came with raw bytes and with contents")
    number = _TYPED.get(output.datatype)
    own = [each for each in output.contents if each[0] == number]
    return reshaped(floats_of(own, kind), output.shape)
