"""A server that refuses, or is gone, is one error of this process, with what was done before."""

import socket

import httpx
import pytest

from midstream.app.server_refusals import refusal_of, server_answer, server_client, unavailable
from midstream.core.errors import ModelUnfit, RequestInvalid, StoreUnavailable

FAULT = {"pointer": "/n", "came": "0 came.", "right": "1 to 9.", "page": "/docs/http.md"}
PROBLEM = {"type": "urn:midstream:invalid", "title": "t", "status": 400, "detail": "No good.", "errors": [FAULT]}


def test_a_server_that_is_gone_is_named_with_what_was_done() -> None:
    """Whatever request finds it gone; without an address nothing is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    done = [1]
    expected = rf"^{url} has the folder open and does not answer: .*\. 1 were erased$"
    with (
        pytest.raises(StoreUnavailable, match=expected),
        server_client(url, 1.0, lambda: f". {len(done)} were erased") as client,
    ):
        client.get("/health/live")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        server_answer(url, 1.0, lambda client: client.get("/"), unavailable)
    assert server_answer(None, 1.0, lambda client: client.get("/"), unavailable) is None


def test_a_refusal_has_its_faults_or_its_reason() -> None:
    """Faults of what was sent by their kind; else the status and the words, also of what is no problem document."""
    refused = refusal_of(httpx.Response(400, json=PROBLEM), "u")
    assert isinstance(refused, RequestInvalid)
    assert [(each.where, each.came) for each in refused.faults] == [("/n", "0 came.")]
    unfit = refusal_of(httpx.Response(409, json=PROBLEM | {"type": "urn:midstream:model-refused"}), "u")
    assert isinstance(unfit, ModelUnfit)
    assert str(unavailable(httpx.Response(503, json=PROBLEM), "u", ". Again")) == "u answered 503: No good. Again"
    assert str(refusal_of(httpx.Response(502, text="Bad gateway"), "u")) == "u answered 502: Bad gateway"
