"""Repetition, deadlines and errors of an exchange, without a network: a test is the driver."""

import msgspec
import pytest

from midstream.client import (
    AccessDenied,
    AnswerPending,
    AnswerUnreadable,
    ClientError,
    ClientOptions,
    EventsRejected,
    IdUnknown,
    InvalidRequest,
    KeyRejected,
    QuotaExceeded,
    RequestTooLarge,
    ServerBusy,
    ServerFailed,
    ServerUnreachable,
    StateConflict,
)
from midstream.client.exchange import Attempt, HttpReply, HttpRequest, NoReply, answer_to, reply_to
from midstream.client.operations import Operations
from midstream.client.requests import with_event_ids
from midstream.core.answers.problems import FaultBody, Problem
from tests.client.conftest import URL, ScriptedEdge

OPTIONS = ClientOptions(attempts_max=4, deadline_s=10, timeout_s=2, pause_s=0.1, pause_s_max=0.3)
GET = HttpRequest("GET", "/v1/items/lamp")
OK = HttpReply(200, b"{}")
BUSY = HttpReply(503, msgspec.json.encode(Problem("urn:midstream:overloaded", "Too much", 503, "later")))
LOST = NoReply("ReadError", was_sent=True)
NOT_SENT = NoReply("ConnectError", was_sent=False)


class Driven:
    """What an exchange did: each attempt, and the seconds of each pause."""

    def __init__(self, exchange, outcomes, edge, attempt_s=0.0):
        self.attempts, self.pauses = [], []
        left = list(outcomes)
        step = next(exchange)
        try:
            while True:
                if isinstance(step, Attempt):
                    self.attempts.append(step)
                    edge.now_s += attempt_s
                    step = exchange.send(left.pop(0))
                else:
                    self.pauses.append(step.seconds)
                    edge.now_s += step.seconds
                    step = exchange.send(None)
        except StopIteration as ended:
            self.result = ended.value
        except ClientError as error:
            self.result = error
        self.left = left


def driven(outcomes, request=GET, options=OPTIONS, *, uniform=1.0, attempt_s=0.0):
    edge = ScriptedEdge(uniform)
    return Driven(reply_to(edge.session(options), request), outcomes, edge, attempt_s)


@pytest.mark.parametrize(
    "first", [BUSY, LOST, NOT_SENT, HttpReply(429, b""), HttpReply(502, b""), HttpReply(504, b""), HttpReply(507, b"")]
)
def test_what_may_pass_is_tried_again(first):
    """And nothing is sent after the answer."""
    run = driven([first, OK, OK])
    assert (run.result, len(run.attempts), run.left) == (OK, 2, [OK])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500])
def test_what_stays_is_not_tried_again(status):
    """A refusal of the request itself is the same the next time."""
    run = driven([HttpReply(status, b""), OK])
    assert (run.result.status, len(run.attempts)) == (status, 1)


def test_pauses_double_up_to_their_bound_and_attempts_to_theirs():
    """The last failure is what the caller sees."""
    run = driven([BUSY] * 9)
    assert run.pauses == pytest.approx([0.1, 0.2, 0.3])
    assert (len(run.attempts), run.result) == (4, BUSY)


def test_pauses_are_drawn():
    """From 0 to the bound, so that clients part."""
    assert driven([BUSY] * 9, uniform=0.5).pauses == pytest.approx([0.05, 0.1, 0.15])


def test_retry_after_is_the_least_pause():
    """A date in the header, or anything else, counts as none."""
    assert driven([HttpReply(503, b"", "3"), OK]).pauses == [3.0]
    assert driven([HttpReply(503, b"", "Wed, 21 Oct 2015 07:28:00 GMT"), OK]).pauses == pytest.approx([0.1])


def test_no_pause_goes_beyond_the_deadline():
    """A server that says 30 s is not waited for, and the last attempt has the rest of the time."""
    run = driven([HttpReply(503, b"", "30"), OK])
    assert (run.pauses, run.result.status) == ([], 503)
    run = driven([LOST] * 9, options=msgspec.structs.replace(OPTIONS, attempts_max=9), attempt_s=3.0)
    assert run.attempts[-1].timeout_s < OPTIONS.timeout_s
    assert isinstance(run.result, ServerUnreachable)
    assert sum(run.pauses) + 3.0 * len(run.attempts) < OPTIONS.deadline_s + 3.0


@pytest.mark.parametrize(
    "repeat,outcome,attempts",
    [
        ("without_effect", NOT_SENT, 2),
        ("without_effect", HttpReply(429, b""), 2),
        ("without_effect", LOST, 1),
        ("without_effect", BUSY, 1),
        ("never", NOT_SENT, 1),
        ("never", BUSY, 1),
    ],
)
def test_a_request_that_may_count_twice(repeat, outcome, attempts):
    """Is repeated only where the first one surely had no effect."""
    assert (
        len(driven([outcome, OK], HttpRequest("PUT", "/v1/placements/home", b"{}", repeat=repeat)).attempts) == attempts
    )


@pytest.mark.parametrize(
    "status,kind",
    [
        (400, InvalidRequest),
        (401, KeyRejected),
        (403, AccessDenied),
        (404, IdUnknown),
        (409, StateConflict),
        (413, RequestTooLarge),
        (415, InvalidRequest),
        (422, EventsRejected),
        (429, QuotaExceeded),
        (500, ServerFailed),
        (503, ServerBusy),
        (507, ServerBusy),
    ],
)
def test_a_refusal_has_its_class_and_four_parts(status, kind):
    """Of each fault, with an address in place of the page's path."""
    faults = (
        FaultBody("/n", "0 came.", "1 to 100.", "/docs/http.md"),
        FaultBody("/x", "It is unknown.", "n.", "/docs/http.md"),
    )
    problem = Problem(
        "urn:midstream:x", "Wrong", status, "d", "/docs/http.md", "/n", "0 came.", "1 to 100.", errors=faults
    )
    body = msgspec.to_builtins(problem) | {"recorded": 0, "duplicates": 0, "rejected": []}
    edge = ScriptedEdge()
    once = msgspec.structs.replace(OPTIONS, attempts_max=1)
    run = Driven(answer_to(edge.session(once), GET, dict), [HttpReply(status, msgspec.json.encode(body))], edge)
    error = run.result
    assert type(error) is kind
    assert (error.where, error.came, error.right, error.page) == ("/n", "0 came.", "1 to 100.", f"{URL}/docs/http.md")
    assert [fault.where for fault in error.faults] == ["/n", "/x"]
    assert all(part in str(error) for part in ("/n", "0 came.", "1 to 100.", f"{URL}/docs/http.md", "It is unknown."))


@pytest.mark.parametrize("status,body", [(404, b"<html>nginx</html>"), (200, b"<html>"), (200, b"[1]"), (500, b"")])
def test_an_answer_of_another_program_is_named(status, body):
    """A proxy's page is neither a result nor a refusal of midstream."""
    edge = ScriptedEdge()
    run = Driven(answer_to(edge.session(OPTIONS), GET, dict), [HttpReply(status, body)], edge)
    assert isinstance(run.result, AnswerUnreadable)
    assert URL in str(run.result)


@pytest.mark.parametrize("given", [{}, {"event_id": ""}, {"event_id": None}])
def test_an_empty_event_id_is_none(given):
    """Of an event, and of a change of one item."""
    assert with_event_ids({"type": "view", "item_id": "a", **given}, lambda: "new") == [
        {"type": "view", "item_id": "a", "event_id": "new"}
    ]
    client = Operations()
    client.session = ScriptedEdge().session(OPTIONS)
    step = next(Operations.put_item._build(client, "lamp", {}, **given))
    assert isinstance(step, Attempt)
    assert step.request.target == "/v1/items/lamp?event_id=id-1"


def test_null_is_a_field_that_is_not_sent():
    """With an id of the caller too."""
    assert with_event_ids({"event_id": "own", "value": None}, lambda: "new") == [{"event_id": "own"}]


def test_an_explanation_that_is_not_made_is_asked_for_again_after_a_pause():
    """Pauses double up to their bound, and end with the deadline."""
    later = HttpReply(202, b'{"state": "running"}')

    def asked(outcomes, attempt_s):
        edge = ScriptedEdge()
        client = Operations()
        client.session = edge.session(OPTIONS)
        return Driven(Operations.explanation._build(client, "r"), outcomes, edge, attempt_s)

    run = asked([later] * 3 + [HttpReply(404, msgspec.json.encode(Problem("t", "Unknown", 404, "d")))], 0.0)
    assert isinstance(run.result, IdUnknown)
    assert run.pauses == [0.1, 0.2, 0.3]
    run = asked([later] * 9, 6.0)
    assert isinstance(run.result, AnswerPending)
    assert (len(run.attempts), run.pauses) == (2, [0.1])
    run = asked([HttpReply(202, b"{}", retry_after="4")] * 9, 1.0)
    assert isinstance(run.result, AnswerPending)
    assert run.pauses == [4.0]


def test_a_repeated_attempt_has_the_same_event_ids():
    """The id is made before the first attempt; an id of the caller stays."""
    edge = ScriptedEdge()
    client = Operations()
    client.session = edge.session(OPTIONS)
    body = msgspec.json.encode({"recorded": 2, "duplicates": 0, "rejected": [], "log_position": "P"})
    events = [
        {"type": "view", "user_id": "ann", "item_id": "lamp"},
        {"type": "view", "event_id": "own", "user_id": "bo"},
    ]
    run = Driven(Operations.record._build(client, events), [LOST, BUSY, HttpReply(200, body)], edge)
    assert run.result.recorded == 2
    assert len({attempt.request.body for attempt in run.attempts}) == 1
    assert [each["event_id"] for each in msgspec.json.decode(run.attempts[0].request.body or b"")] == ["id-1", "own"]
    assert "event_id" not in events[0]
    assert client.session.positions.wanted([("user_id", "bo")]) == "P"
