"""A description of a graph is what every other reader has of the file, or the file is refused; reading is bounded."""

from contextlib import suppress
from itertools import product
from time import process_time

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from midstream.core.errors import ArtifactInvalid, Invalid
from midstream.models.onnx.graph import attribute_values, domain_of, read_graph
from midstream.models.onnx.wire import bytes_field, fields, number_field, written
from midstream.models.onnx.writing import node, onnx_file, tensor, value
from tests.support.small_graphs import by_column, classifier, linear, stump

ENDS: tuple[list[bytes], list[bytes], dict[str, np.ndarray]] = (
    [value("rows", ("n", 1))],
    [value("score", ("n", 1))],
    {},
)
RELU = node("Relu", ["rows"], ["score"])
T = tensor("w", np.zeros(1, dtype=np.float32))
TWICE = [bytes_field(2, written([bytes_field(1, b"")])), bytes_field(2, written([bytes_field(1, b"")]))]


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"tree\nversion=v4\n", b"PK\x03\x04 a zip", linear()[:-9]])
def test_what_is_no_onnx_file_is_refused(content):
    """As what it is, and whatever is cut off."""
    with pytest.raises(ArtifactInvalid):
        read_graph(memoryview(content))


@pytest.mark.parametrize("where", ["before", "behind"])
def test_two_graphs_in_a_file_are_refused(where):
    """Other readers merge both: a loop of the first one would run, and rules would see the second one alone."""
    hidden = bytes_field(7, written([bytes_field(1, node("Loop", ["rows"], ["unused"]))]))
    content = onnx_file([RELU], *ENDS)
    two = written([hidden]) + content if where == "before" else content + written([hidden])
    with pytest.raises(ArtifactInvalid, match="field 7 came twice in a model"):
        read_graph(memoryview(two))


def test_two_versions_of_operators_are_refused():
    """The same one twice is what skl2onnx writes; the names of ONNX's own operators are one."""
    content = onnx_file([RELU], *ENDS)
    for domain, version in (("", 17), ("ai.onnx", 17)):
        twice = content + written([bytes_field(8, written([bytes_field(1, domain), number_field(2, version)]))])
        assert read_graph(memoryview(twice)).opsets[""] == 17
    other = content + written([bytes_field(8, written([bytes_field(1, "ai.onnx"), number_field(2, 18)]))])
    with pytest.raises(ArtifactInvalid, match=r"operators of ai\.onnx came in two versions"):
        read_graph(memoryview(other))


def test_a_node_behind_a_tag_of_33_bits_is_refused():
    """Other readers take it as a node of the graph."""
    hidden = node("Loop", ["rows"], ["unused"])
    tag = bytes([0x8A, 0x80, 0x80, 0x80, 0x10, len(hidden)])
    parts = [
        bytes_field(7, tag + hidden + bytes(value)) if number == 7 else (number, kind, value)
        for number, kind, value in fields(memoryview(onnx_file([RELU], *ENDS)))
    ]
    with pytest.raises(ArtifactInvalid, match="no message"):
        read_graph(memoryview(written(parts)))


def _with(more):
    """Return a file with a further field in its graph."""
    parts = fields(memoryview(onnx_file([RELU], *ENDS)))
    return written(
        bytes_field(7, bytes(each) + written([more])) if at == 7 else (at, kind, each) for at, kind, each in parts
    )


@pytest.mark.parametrize(
    "more",
    [bytes_field(1, RELU + written([bytes_field(4, "Loop")])),
     bytes_field(1, RELU + written([bytes_field(5, written([bytes_field(1, "a"), *[bytes_field(5, T)] * 2]))])),
     bytes_field(1, RELU + written([bytes_field(5, written([bytes_field(1, "a")]))] * 2)),
     bytes_field(1, RELU + written([number_field(12, 1)])),
     bytes_field(1, RELU + written([bytes_field(5, written([number_field(14, 1)]))])),
     bytes_field(5, T + written([number_field(2, 8)])),
     bytes_field(5, tensor("", np.zeros(1, "<f4")) + written([number_field(14, 1 << 32 | 1)])),
     bytes_field(11, written([bytes_field(1, "more"), *TWICE])),
     bytes_field(11, written([bytes_field(2, written([bytes_field(1, b""), bytes_field(4, b"")]))])),
     bytes_field(2, "again"), number_field(17, 1)],
    ids=["kind", "tensor", "attribute", "of node", "of attribute", "element", "location", "type", "choice", "name",
         "of graph"],
)  # fmt: skip
def test_what_comes_twice_or_is_unknown_is_refused(more):
    """In every message of a graph: what one reader merges or leaves out, another one takes."""
    with pytest.raises(ArtifactInvalid, match=r"came twice|came in|32 bits|wire type"):
        read_graph(memoryview(_with(more)))


def _graph(content):
    return written([bytes_field(7, content), bytes_field(8, written([number_field(2, 17)]))])


@pytest.mark.parametrize(
    "content, came",
    [(b"\x0a\x00" * (32 << 20), "There are more than 10,000 nodes."),
     (b"\x6a\x00" * (32 << 20), "It has more than 2,000,000 fields."),
     (written([bytes_field(5, written([bytes_field(1, b"\x01" * (60 << 20))]))]),
      "There are more than 16 axes of one constant."),
     (written([bytes_field(1, b"\x0a\x00" * (30 << 20))]), "It has more than 2,000,000 fields."),
     (b"\x5a\x00" * (32 << 20), "There are more than 10,000 of them.")],
    ids=["nodes", "fields", "axes", "inputs of a node", "inputs"],
)  # fmt: skip
def test_reading_is_bounded_before_the_rules(content, came):
    """64 MiB of empty parts end at the maximum: processor time, since the machine may be busy."""
    begin = process_time()
    with pytest.raises(Invalid) as caught:
        read_graph(memoryview(_graph(content)))
    assert [each.came for each in caught.value.faults] == [came]
    assert process_time() - begin < 15


def _messages():
    """Return the class of a model for Google's reader of protocol buffers, made of ONNX's own description."""
    file = descriptor_pb2.FileDescriptorProto(name="onnx_of_test.proto", package="onnx_of_test", syntax="proto2")
    # Of onnx.proto: name, number, type, whether it is repeated.
    described = {
        "Dim": "dim_value 1 int64, dim_param 2 string",
        "Shape": "dim 1 Dim*",
        "TensorType": "elem_type 1 int32, shape 2 Shape",
        "Type": "tensor_type 1 TensorType",
        "Value": "name 1 string, type 2 Type",
        "Entry": "key 1 string, value 2 string",
        "Tensor": "dims 1 int64*, data_type 2 int32, name 8 string, external_data 13 Entry*, data_location 14 int32",
        "Attribute": "name 1 string, i 3 int64, t 5 Tensor, g 6 Graph, ints 8 int64*, strings 9 bytes*,"
        " tensors 10 Tensor*, graphs 11 Graph*, sparse_tensor 22 bytes, sparse_tensors 23 bytes*",
        "Node": "input 1 string*, output 2 string*, op_type 4 string, attribute 5 Attribute*, domain 7 string",
        "Graph": "node 1 Node*, initializer 5 Tensor*, input 11 Value*, output 12 Value*, sparse_initializer 15 bytes*",
        "Opset": "domain 1 string, version 2 int64",
        "Model": "ir_version 1 int64, graph 7 Graph, opset_import 8 Opset*, functions 25 bytes*",
    }
    plain = {"int64": 3, "int32": 5, "string": 9, "bytes": 12}
    for name, text in described.items():
        message = file.message_type.add(name=name)
        for part in text.split(","):
            called, number, kind = part.split()
            told = message.field.add(name=called, number=int(number), label=3 if kind.endswith("*") else 1)
            kind = kind.rstrip("*")
            told.type = plain.get(kind, 11)
            if kind not in plain:
                told.type_name = f".onnx_of_test.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("onnx_of_test.Model"))


MODEL = _messages()


def _as_google_reads(content):
    """Return what decides of a file, as the other reader has it."""
    model = MODEL.FromString(content)
    graph = model.graph
    told = [
        *graph.initializer,
        *(t for n in graph.node for a in n.attribute for t in ([a.t] if a.HasField("t") else [])),
    ]
    return (
        model.ir_version,
        {domain_of(each.domain): each.version for each in model.opset_import},
        [(n.op_type, domain_of(n.domain), list(n.input), list(n.output), {a.name: list(a.ints) for a in n.attribute},
          any(a.HasField("g") or a.graphs for a in n.attribute)) for n in graph.node],
        [(t.name, t.data_type, list(t.dims), t.data_location == 1 or len(t.external_data) > 0) for t in told],
        [(v.name, v.type.tensor_type.elem_type if v.type.HasField("tensor_type") else None)
         for v in (*graph.input, *graph.output)],
        (len(model.functions), len(graph.sparse_initializer)),
    )  # fmt: skip


def _as_ours_reads(content):
    found = read_graph(memoryview(content))
    told = [*found.constants.values(), *(each for node in found.nodes for each in node.tensors)]
    return (
        found.ir_version,
        found.opsets,
        [(n.kind, n.domain, list(n.inputs), list(n.outputs),
          {name: [each for each in attribute_values(a) if isinstance(each, int)] for name, a in n.attributes.items()},
          n.has_graph) for n in found.nodes],
        [(each.name, each.element, list(each.shape), each.is_external) for each in told],
        [(each.name, each.element) for each in (*found.inputs, *found.outputs)],
        (found.function_count, found.sparse_count),
    )  # fmt: skip


@pytest.mark.parametrize("content", [linear(), by_column(), classifier(), classifier(zip_map=True), stump()])
def test_another_reader_reads_the_same(content):
    """Google's, of which ONNX Runtime has one: with each bit turned one of both refuses, or both have the same view."""
    assert _as_ours_reads(content) == _as_google_reads(content)
    turned = bytearray(content)
    read = 0
    for place, bit in product(range(len(turned)), range(8)):
        turned[place] ^= 1 << bit
        with suppress(ArtifactInvalid, Invalid, DecodeError):
            found = (_as_ours_reads(bytes(turned)), _as_google_reads(bytes(turned)))
            assert found[0] == found[1], (place, bit)
            read += 1
        turned[place] ^= 1 << bit
    assert read > len(turned), "numbers and names may be any"
