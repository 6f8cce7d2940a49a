"""Messages of model servers as the library of protocol buffers reads and writes them, from their published fields.

They are a second opinion on the wire format: what the engine writes by hand must be what this library reads.
"""

from functools import cache
from typing import Any

from tests.support.libraries import library

OIP = {
    "ModelReadyRequest": [(1, "name", "string"), (2, "version", "string")],
    "ModelReadyResponse": [(1, "ready", "bool")],
    "TensorMetadata": [(1, "name", "string"), (2, "datatype", "string"), (3, "shape", "int64*")],
    "ModelMetadataRequest": [(1, "name", "string"), (2, "version", "string")],
    "ModelMetadataResponse": [
        (1, "name", "string"),
        (2, "versions", "string*"),
        (3, "platform", "string"),
        (4, "inputs", "TensorMetadata*"),
        (5, "outputs", "TensorMetadata*"),
    ],
    "InferTensorContents": [
        (1, "bool_contents", "bool*"),
        (2, "int_contents", "int32*"),
        (3, "int64_contents", "int64*"),
        (6, "fp32_contents", "float*"),
        (7, "fp64_contents", "double*"),
        (8, "bytes_contents", "bytes*"),
    ],
    "InferInputTensor": [
        (1, "name", "string"),
        (2, "datatype", "string"),
        (3, "shape", "int64*"),
        (5, "contents", "InferTensorContents"),
    ],
    "InferRequestedOutputTensor": [(1, "name", "string")],
    "ModelInferRequest": [
        (1, "model_name", "string"),
        (2, "model_version", "string"),
        (3, "id", "string"),
        (5, "inputs", "InferInputTensor*"),
        (6, "outputs", "InferRequestedOutputTensor*"),
        (7, "raw_input_contents", "bytes*"),
    ],
    "InferOutputTensor": [
        (1, "name", "string"),
        (2, "datatype", "string"),
        (3, "shape", "int64*"),
        (5, "contents", "InferTensorContents"),
    ],
    "ModelInferResponse": [
        (1, "model_name", "string"),
        (2, "model_version", "string"),
        (3, "id", "string"),
        (5, "outputs", "InferOutputTensor*"),
        (6, "raw_output_contents", "bytes*"),
    ],
}
TENSORFLOW = {
    "Int64Value": [(1, "value", "int64")],
    "ModelSpec": [(1, "name", "string"), (2, "version", "Int64Value"), (3, "signature_name", "string")],
    "Dim": [(1, "size", "int64"), (2, "name", "string")],
    "TensorShapeProto": [(2, "dim", "Dim*"), (3, "unknown_rank", "bool")],
    "TensorProto": [
        (1, "dtype", "int32"),
        (2, "tensor_shape", "TensorShapeProto"),
        (3, "version_number", "int32"),
        (4, "tensor_content", "bytes"),
        (5, "float_val", "float*"),
        (6, "double_val", "double*"),
        (7, "int_val", "int32*"),
    ],
    "NamedTensor": [(1, "key", "string"), (2, "value", "TensorProto")],
    "PredictRequest": [(1, "model_spec", "ModelSpec"), (2, "inputs", "NamedTensor*"), (3, "output_filter", "string*")],
    "PredictResponse": [(1, "outputs", "NamedTensor*"), (2, "model_spec", "ModelSpec")],
    "GetModelStatusRequest": [(1, "model_spec", "ModelSpec")],
    "StatusProto": [(1, "error_code", "int32"), (2, "error_message", "string")],
    "ModelVersionStatus": [(1, "version", "int64"), (2, "state", "int32"), (3, "status", "StatusProto")],
    "GetModelStatusResponse": [(1, "model_version_status", "ModelVersionStatus*")],
}
"""A map is on the wire what a repeated message of key and value is, and an enumeration what an int32 is."""


@cache
def _classes(package: str) -> dict[str, Any]:
    protocol = library("google.protobuf.descriptor_pb2")
    kinds, factory = protocol.FieldDescriptorProto, library("google.protobuf.message_factory")
    messages = {"oip": OIP, "tensorflow": TENSORFLOW}[package]
    file = protocol.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            made = message.field.add(name=field, number=number)
            made.label = kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL
            plain = kind.removesuffix("*")
            if plain in messages:
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".{package}.{plain}"
            else:
                made.type = getattr(kinds, f"TYPE_{plain.upper()}")
    pool = library("google.protobuf.descriptor_pool").DescriptorPool()
    pool.Add(file)
    return {name: factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def message(package: str, name: str, content: bytes | None = None, /, **fields: Any) -> Any:
    """Return a message, of some bytes or of some fields."""
    kind = _classes(package)[name]
    return kind(**fields) if content is None else kind.FromString(content)
