"""Answers made to cost much, or to mix two: refused in little time, and their connection is not used again."""

import asyncio
import time

import msgspec
import pytest

from midstream.integrations.model_servers.exchange import ANSWER_BYTES_MAX, AnswerInvalid, Call, ServerReply
from midstream.integrations.model_servers.http_connection import HEAD_BYTES_MAX
from midstream.integrations.model_servers.http_transport import HttpTransport
from midstream.integrations.model_servers.messages import bytes_field, number_field, written
from midstream.integrations.model_servers.oip_grpc import OipGrpc
from midstream.integrations.model_servers.oip_http import HEADER_LENGTH, OipHttp
from midstream.integrations.model_servers.target import Target
from midstream.integrations.model_servers.tensorflow_grpc import TensorFlowGrpc
from midstream.integrations.model_servers.tensorflow_rest import TensorFlowRest
from midstream.integrations.model_servers.urls import url_of

TARGET = Target("ranker", "", "input", "", "matrix", "json", "")
CPU_S_MAX = 0.3
"""Of one answer; each of these took one to four seconds where its parts were bounded one by one."""
FEW = written([number_field(9, 1)] * 47)
MANY = b"\x48\x01" * 9_900
DIMENSIONS = written([bytes_field(2, b"\x08\x01")] * 4_900)


def _oip(*parts):
    return written([bytes_field(5, written([bytes_field(1, "score"), bytes_field(2, "FP32"), *parts]))])


def _tensorflow(*parts):
    tensor = written([number_field(1, 1), *parts])
    return written([bytes_field(1, written([bytes_field(1, "score"), bytes_field(2, tensor)]))])


def _listed(each, count, name="predictions"):
    return b'{"%s":[' % name.encode() + b",".join([each] * count) + b"]}"


HOSTILE = {
    "contents again and again": (OipGrpc, _oip(*[bytes_field(5, FEW)] * 3_000)),
    "shapes again and again": (OipGrpc, _oip(*[bytes_field(3, b"\x01" * 10_000)] * 104)),
    "short shapes": (OipGrpc, _oip(*[bytes_field(3, b"\x01" * 8)] * 9_000)),
    "fields of contents": (OipGrpc, _oip(*[bytes_field(5, MANY)] * 52)),
    "outputs": (OipGrpc, _oip() * 60_000),
    "outputs with fields": (OipGrpc, _oip(bytes_field(5, FEW)) * 5_000),
    "dimensions": (TensorFlowGrpc, _tensorflow(*[bytes_field(2, DIMENSIONS)] * 52)),
    "outputs of a map": (TensorFlowGrpc, _tensorflow() * 50_000),
    "rows of one": (TensorFlowRest, _listed(b"[1]", 262_000)),
    "rows of objects": (TensorFlowRest, _listed(b'{"a":1}', 130_000)),
    "numbers": (TensorFlowRest, _listed(b"1", 524_000)),
    "outputs of json": (OipHttp, _listed(b'{"name":"","datatype":"","shape":[]}', 28_000, "outputs")),
}


@pytest.mark.parametrize("kind, body", HOSTILE.values(), ids=list(HOSTILE))
def test_an_answer_costs_little_whatever_is_in_it(kind, body):
    """All of it has one budget, however its parts are nested and repeated."""
    began = time.process_time()
    with pytest.raises(AnswerInvalid):
        kind(TARGET).numbers(ServerReply(200, {}, body))
    assert time.process_time() - began < CPU_S_MAX


def test_more_outputs_than_a_model_has_are_refused():
    """A named one among them too."""
    of = Target("ranker", "", "input", "score", "matrix", "binary", "")
    with pytest.raises(AnswerInvalid, match="more than 64 outputs came"):
        OipGrpc(of).numbers(ServerReply(200, {}, _oip() * 65))
    entries = [written([bytes_field(1, f"s{number}"), bytes_field(2, b"\x08\x01")]) for number in range(65)]
    with pytest.raises(AnswerInvalid, match="more than 64 outputs came"):
        TensorFlowGrpc(of).numbers(ServerReply(200, {}, written([bytes_field(1, each) for each in entries])))


@pytest.mark.parametrize("shape", [[0, 1 << 63], [0, 1 << 80], [0, -1], [1 << 40]])
@pytest.mark.parametrize("more", [{"data": []}, {"parameters": {"binary_data_size": 0}}])
def test_a_shape_that_no_array_has_is_refused(shape, more):
    """As an answer that is wrong, and by no error of numpy."""
    head = {"name": "score", "datatype": "FP32", "shape": [1]} | more
    body = msgspec.json.encode({"outputs": [head]}).replace(b'"shape":[1]', f'"shape":{shape}'.encode())
    with pytest.raises(AnswerInvalid):
        OipHttp(TARGET).numbers(ServerReply(200, {}, body))


@pytest.mark.parametrize("length", ["0000000000" + "9" * 5_000, "9" * 50, "00000000005", "-1", ""])
def test_a_length_of_many_digits_is_refused(length):
    """As an answer that is wrong, and by no error of Python."""
    with pytest.raises(AnswerInvalid):
        OipHttp(TARGET).numbers(ServerReply(200, {HEADER_LENGTH: length}, b"{}"))


def told_by(answers, work):
    """Return what some work with a client gives, of a server that says these bytes to its questions in turn."""
    left = list(answers)

    async def served(reader, writer):
        try:
            while left:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(1)
                for piece in left.pop(0):
                    writer.write(piece)
                    await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    async def all_of_it():
        server = await asyncio.start_server(served, "127.0.0.1", 0)
        transport = HttpTransport(url_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), None, None)
        try:
            async with asyncio.timeout(20):
                return await work(transport)
        finally:
            await transport.close()
            server.close()

    return asyncio.run(all_of_it())


async def asked(transport):
    """Return the answer, and how many connections are kept."""
    reply = await transport.send(Call("/", b"x"))
    return reply, len(transport._idle)


ONE = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nx-one: 1\r\n\r\n1"
TWO = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nx-two: 2\r\n\r\n2"


@pytest.mark.parametrize("surplus", [TWO, TWO[:20], b"H", b"garbage"])
def test_what_comes_behind_an_answer_is_not_of_it(surplus):
    """The answer is what it was, and the connection is not used again."""
    reply, kept = told_by([[ONE + surplus]], asked)
    assert (dict(reply.headers), reply.body, kept) == ({"content-length": "1", "x-one": "1"}, b"1", 0)


def test_a_connection_is_kept_behind_an_answer_alone():
    """As the control of the above; the end of a line is nothing."""
    assert told_by([[ONE]], asked)[1] == 1
    assert told_by([[ONE + b"\r\n"]], asked)[1] == 1


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n"


@pytest.mark.parametrize(
    "pieces, reason",
    [
        ([CHUNKED + b"0\r\n" + HEADER_LENGTH.encode() + b": 9\r\n\r\n"], "headers came behind the answer"),
        ([CHUNKED + b"0\r\n"] + [b"h: %s\r\n" % (b"v" * 1_000)] * 4_000, "headers came behind the answer"),
        ([CHUNKED + b"0\r\nh: "] + [b"v" * 65_536] * 64, "more than 1 MiB|is no HTTP|headers came"),
        ([CHUNKED + b"1;"] + [b"e" * 65_536] * 64, "more than 1 MiB|is no HTTP"),
        ([CHUNKED] + [b"1;" + b"e" * 1_000 + b"\r\nx\r\n"] * 4_000, "more than 1 MiB"),
    ],
)
def test_all_bytes_of_an_answer_count(pieces, reason):
    """Those around its pieces and behind them too."""
    assert sum(map(len, pieces)) > ANSWER_BYTES_MAX + HEAD_BYTES_MAX or len(pieces) == 1
    with pytest.raises(AnswerInvalid, match=reason):
        told_by([pieces], asked)
