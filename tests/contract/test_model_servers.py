"""Every protocol of model servers keeps the same promises: the right scores, or a failure with a name, and in time."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest

from midstream.core.errors import MidstreamError, ScoresUnavailable, StoreUnavailable
from midstream.core.types import FeatureFrame, Models, Query, TimestampMs
from midstream.integrations.model_servers.exchange import AnswerInvalid
from midstream.integrations.model_servers.remote_scorer import RemoteScorer, misfit
from midstream.state.settings import read_duration
from tests.support.closed_connectors import run
from tests.support.model_servers.models import (
    RIGHT,
    FakeModel,
    OipGrpcModel,
    OipHttpModel,
    TensorFlowGrpcModel,
    TensorFlowRestModel,
    TorchServeModel,
    right_scores,
)
from tests.support.model_servers.servers import FakeServer, GrpcServer, HttpServer, running

QUERY = Query("r", "home", "ann", None, 20, TimestampMs(0), 1)
NAMES = ("score.popular", "rank.popular", "price", "rate")
VALUES = np.random.default_rng(7).normal(size=(50, 4)).astype(np.float32)
FEATURES = FeatureFrame(NAMES, VALUES)
SENT = VALUES[:, 2:]


@dataclass(frozen=True)
class Way:
    """A protocol, and what carries it."""

    name: str
    server: type[FakeServer]
    model: Callable[[], FakeModel]
    options: dict[str, object] = field(default_factory=dict)
    is_json: bool = False


WAYS = [
    Way("oip binary", HttpServer, OipHttpModel, {"protocol": "oip"}),
    Way("oip binary, answer json", HttpServer, lambda: OipHttpModel(answers="json"), {"protocol": "oip"}),
    Way(
        "oip json",
        HttpServer,
        lambda: OipHttpModel(answers="json"),
        {"protocol": "oip", "encoding": "json"},
        is_json=True,
    ),
    Way("oip grpc, raw", GrpcServer, OipGrpcModel, {"protocol": "oip"}),
    Way("oip grpc, contents", GrpcServer, lambda: OipGrpcModel(answers="contents"), {"protocol": "oip"}),
    Way("tensorflow rest", HttpServer, TensorFlowRestModel, {"protocol": "tensorflow_serving"}, is_json=True),
    Way("tensorflow grpc, content", GrpcServer, TensorFlowGrpcModel, {"protocol": "tensorflow_serving"}),
    Way(
        "tensorflow grpc, values",
        GrpcServer,
        lambda: TensorFlowGrpcModel(answers="values"),
        {"protocol": "tensorflow_serving"},
    ),
    Way("torchserve", HttpServer, TorchServeModel, {"protocol": "torchserve"}, is_json=True),
]


def of(is_right):
    """Give a test some of the ways alone."""
    ways = [each for each in WAYS if is_right(each)]
    return pytest.mark.parametrize("way", ways, ids=[each.name for each in ways], indirect=True)


HTTP_ALONE = of(lambda way: way.server is HttpServer)
TENSORS_ALONE = of(lambda way: way.options["protocol"] != "torchserve")
OIP_ALONE = of(lambda way: way.options["protocol"] == "oip")


@pytest.fixture(params=WAYS, ids=[each.name for each in WAYS], name="way")
def _way(request):
    return request.param


@pytest.fixture(name="server")
def _server(way):
    with running(way.server, way.model()) as server:
        yield server


def scorer_of(way, server, **more):
    """Return a scorer of the server."""
    options = {
        "url": server.url,
        "model": "ranker",
        **way.options,
        **({"missing": -1.0} if way.is_json else {}),
        **more,
    }
    if way.options["protocol"] == "torchserve":
        options["management_url"] = server.url
    return msgspec.convert(options | {"kind": "remote"}, RemoteScorer, dec_hook=read_duration)


def scored(scorer, features=FEATURES):
    """Return the scores."""
    return run(scorer.score(QUERY, features, Models({})))


async def waited(scorer, wait_s=0.3):
    """Return what a request that waits for so long gets: scores, or what was raised."""
    try:
        return await asyncio.wait_for(scorer.score(QUERY, FEATURES, Models({})), wait_s)
    except (MidstreamError, TimeoutError) as error:
        return error


async def well(scorer):
    """Return what requests get as soon as the server is well again, or the last failure."""
    until = time.monotonic() + 20.0
    found = None
    while found is None or (isinstance(found, Exception) and time.monotonic() < until):
        found = await waited(scorer, 1.0)
        await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("mode", RIGHT)
def test_scores_are_those_of_the_model(way, server, mode):
    """Of the placement's features alone, in their order, whatever floats come and in one or two dimensions."""
    server.model.mode = mode
    found = scored(scorer_of(way, server))
    assert (found.dtype, found.shape) == (np.float32, (50,))
    assert np.allclose(found, right_scores(SENT), rtol=1e-6, atol=1e-6)
    assert np.array_equal(server.model.rows[-1], SENT)


def test_columns_are_sent_as_they_are_listed(way, server):
    """In the order of the list, of sources too."""
    scored(scorer_of(way, server, columns=("rate", "rank.popular")))
    assert np.array_equal(server.model.rows[-1], VALUES[:, [3, 1]])


def test_a_missing_value_is_what_the_model_takes_for_one(way, server):
    """A number where one is configured, else NaN."""
    values = VALUES.copy()
    values[3, 2] = np.nan
    found = scored(scorer_of(way, server, missing=-1.0), FeatureFrame(NAMES, values))
    assert server.model.rows[-1][3, 0] == -1.0
    assert np.allclose(found, right_scores(values[:, 2:]), rtol=1e-6, atol=1e-6)
    if not way.is_json:
        scored(scorer_of(way, server), FeatureFrame(NAMES, values))
        assert np.isnan(server.model.rows[-1][3, 0])


def test_a_column_of_several_is_chosen(way, server):
    """Such as the second class of two; without a choice nobody guesses."""
    server.model.mode = "classes"
    assert np.allclose(scored(scorer_of(way, server, output_column=1)), right_scores(SENT), rtol=1e-6, atol=1e-6)
    with pytest.raises(AnswerInvalid, match=r"scores of shape \(50, 2\) came where \(50,\) is right"):
        scored(scorer_of(way, server))
    with pytest.raises(AnswerInvalid, match=r"shape \(50, 2\) came where \(50, more than 2\)"):
        scored(scorer_of(way, server, output_column=2))
    for mode in ("right", "upright"):  # one number a row has no second
        server.model.mode = mode
        with pytest.raises(AnswerInvalid, match=r"came where \(50, more than 1\)"):
            scored(scorer_of(way, server, output_column=1))


@TENSORS_ALONE
def test_columns_may_be_inputs_of_their_own(way, server):
    """Each with one number a row."""
    found = scored(scorer_of(way, server, layout="columns"))
    assert np.allclose(found, right_scores(SENT), rtol=1e-6, atol=1e-6)


@TENSORS_ALONE
def test_an_output_of_several_is_named(way, server):
    """Else none is taken."""
    server.model.mode = "two outputs"
    assert np.allclose(scored(scorer_of(way, server, output="score")), right_scores(SENT), rtol=1e-6, atol=1e-6)
    with pytest.raises(AnswerInvalid, match="outputs score, other came where one is right"):
        scored(scorer_of(way, server))


@pytest.mark.parametrize(
    "mode, reason",
    [
        ("short", "(49"),
        ("long", "(51"),
        ("empty", "0"),
        ("nan", "1 of 50 scores are no numbers|JSON: "),
        ("infinite", "1 of 50 scores are no numbers|JSON: "),
        ("beyond", "50 of 50 scores are no numbers"),
        ("flat", "(1, 50)"),
        ("deep", "dimensions|JSON: "),
        ("garbage", ""),
        ("nothing", ""),
        ("huge", "more than 1 MiB|RESOURCE_EXHAUSTED"),
        ("nested", ""),
        ("error", "500|INTERNAL"),
    ],
)
def test_a_wrong_answer_is_refused_and_says_how(way, server, mode, reason):
    """Never a score, and no error of a library."""
    server.model.mode = mode
    with pytest.raises((AnswerInvalid, StoreUnavailable)) as caught:
        scored(scorer_of(way, server))
    assert any(each in str(caught.value) for each in reason.split("|")), str(caught.value)
    server.model.mode = "right"
    assert len(scored(scorer_of(way, server))) == 50


@of(lambda way: way.name == "torchserve")
def test_a_refusal_of_torchserve_is_told_by_its_message(way, server):
    """The name of an exception in front of it would take the room that a reason has."""
    server.model.mode = "refusal"
    with pytest.raises(
        (AnswerInvalid, StoreUnavailable), match=r'503: Model "ranker" has no worker to serve inference'
    ):
        scored(scorer_of(way, server))
    server.model.mode = "error"
    with pytest.raises((AnswerInvalid, StoreUnavailable), match=r'500: {"error": "out of memory"}'):
        scored(scorer_of(way, server))


@of(lambda way: way.name != "torchserve" and not way.name.startswith("tensorflow rest"))
def test_whole_numbers_are_refused(way, server):
    """Where numbers have a type: they may be places or classes."""
    server.model.mode = "integers"
    with pytest.raises(AnswerInvalid, match=r"numbers of type \w+ came where"):
        scored(scorer_of(way, server))


@HTTP_ALONE
@pytest.mark.parametrize(
    "mode, reason",
    [
        ("half", "JSON|came"),
        ("gzip", "in deflate came, which was not asked for"),
        ("elsewhere", "it answered 307"),
        ("closed", "the server closed the connection"),
        ("cut", "the server closed the connection"),
    ],
)
def test_what_http_may_do_besides_is_refused(way, server, mode, reason):
    """Half of an answer, a compressed one, a redirection, a connection that ends before or within one."""
    server.model.mode = mode
    with pytest.raises((AnswerInvalid, StoreUnavailable), match=reason):
        scored(scorer_of(way, server, give_up="300ms"))


@HTTP_ALONE
def test_a_dribbling_server_costs_the_time_of_a_request(way, server):
    """A byte now and then keeps no request, and the call is given up soon after it, with its place and connection."""
    server.model.mode = "dribble"
    scorer = scorer_of(way, server, give_up="300ms", calls_max=1)

    async def asked():
        late = await waited(scorer, 0.1)
        server.model.mode = "right"
        began = time.monotonic()
        return late, await waited(scorer, 5.0), time.monotonic() - began

    late, after, took_s = run(asked())
    assert isinstance(late, TimeoutError)
    assert len(after) == 50
    assert 0.2 < took_s < 3.0


@pytest.mark.parametrize("mode", ["silent", "slow 0.6"])
def test_a_slow_server_costs_its_time_alone(way, server, mode):
    """The request goes on at its time, whatever drips in; and the next one has scores again."""
    scorer = scorer_of(way, server)

    async def asked():
        assert len(await scorer.score(QUERY, FEATURES, Models({}))) == 50
        server.model.mode = mode
        began = time.monotonic()
        late = await waited(scorer, 0.2)
        took_s = time.monotonic() - began
        server.model.mode = "right"
        return late, took_s, await waited(scorer, 5.0)

    late, took_s, after = run(asked())
    assert isinstance(late, TimeoutError)
    assert took_s < 1.0
    assert np.allclose(after, right_scores(SENT), rtol=1e-6, atol=1e-6)


def test_a_server_that_is_gone_fails_at_once_and_comes_back(way, server):
    """While it is away each call fails in no time; it is used again without a new client."""
    scorer = scorer_of(way, server)

    async def asked():
        assert len(await scorer.score(QUERY, FEATURES, Models({}))) == 50
        await asyncio.to_thread(server.stop)
        away, took_s = [], []
        for _ in range(5):
            began = time.monotonic()
            away.append(await waited(scorer, 1.0))
            took_s.append(time.monotonic() - began)
        await asyncio.to_thread(server.start)
        back = await well(scorer)
        return away, took_s, back

    away, took_s, back = run(asked())
    assert all(isinstance(each, StoreUnavailable) for each in away), away
    assert max(took_s) < 0.9
    assert np.allclose(back, right_scores(SENT), rtol=1e-6, atol=1e-6)


def test_a_model_that_is_not_ready_is_not_asked(way, server):
    """Until it is; TorchServe is asked for its workers."""
    server.model.is_ready = False
    scorer = scorer_of(way, server)

    async def asked():
        before = await waited(scorer, 5.0)
        assert not server.model.rows
        server.model.is_ready = True
        after = await well(scorer)
        return before, after

    before, after = run(asked())
    assert isinstance(before, StoreUnavailable)
    assert "is not connected" in str(before)
    assert len(after) == 50
    assert "/ping" not in [each.path for each in server.model.asked]


def test_calls_at_once_are_bounded_and_connections_are_kept(way, server):
    """Twenty requests share three places, and then what is open."""
    server.model.mode = "slow 0.03"
    scorer = scorer_of(way, server, calls_max=3, give_up="20s")

    async def asked():
        return await asyncio.gather(*(waited(scorer, 20.0) for _ in range(20)))

    found = run(asked())
    assert all(isinstance(each, np.ndarray) for each in found), found
    assert server.most_under_way == 3
    if way.server is HttpServer:
        assert server.connections <= 4  # and that of the question whether it is ready


@pytest.mark.parametrize("give_up", ["100ms", "10s"])
def test_who_is_out_of_time_before_a_place_asks_nobody(way, server, give_up):
    """Places go to those who wait still, and a call that somebody waits for has its time."""
    server.model.mode = "slow 0.6"
    scorer = scorer_of(way, server, calls_max=1, give_up=give_up)

    async def asked():
        first = asyncio.ensure_future(waited(scorer, 10.0))
        while not server.under_way:  # noqa: ASYNC110  of a thread that has no event
            await asyncio.sleep(0.01)
        late = await asyncio.gather(*(waited(scorer, 0.1) for _ in range(8)))
        return await first, late, await waited(scorer, 10.0)

    first, late, after = run(asked())
    assert (len(first), len(after)) == (50, 50)
    assert all(isinstance(each, TimeoutError) for each in late), late
    assert len(server.model.rows) == 2


@of(lambda way: way.is_json)
def test_an_infinite_value_is_no_json(way, server):
    """It is named, and nobody is asked: null would be another value."""
    values = VALUES.copy()
    values[3, 2] = np.inf
    with pytest.raises(ScoresUnavailable, match="price has an infinity or NaN, which JSON does not have"):
        scored(scorer_of(way, server), FeatureFrame(NAMES, values))
    assert not server.model.rows


def test_no_candidates_ask_nobody(way, server):
    """The scores of none are none."""
    assert scored(scorer_of(way, server), FeatureFrame(NAMES, VALUES[:0])).shape == (0,)
    assert not server.model.asked


def test_a_missing_column_is_named(way, server):
    """It is the configuration's fault, and nobody is asked."""
    with pytest.raises(ScoresUnavailable, match="reads weight, which the placement does not"):
        scored(scorer_of(way, server, columns=("weight",)))
    assert not server.model.rows


@HTTP_ALONE
def test_an_answer_without_a_length_is_read_to_its_end(way, server):
    """As servers of HTTP 1.0 send it."""
    server.model.mode = "without length"
    assert len(scored(scorer_of(way, server))) == 50


@pytest.mark.parametrize(
    "way, mode",
    [(WAYS[0], "longer than said"), (WAYS[0], "head longer than said"), (WAYS[3], "both")],
    indirect=["way"],
    ids=["body", "head", "both"],
)
def test_lengths_that_do_not_fit_are_refused(way, server, mode):
    """More bytes than there are, and scores in two places."""
    server.model.mode = mode
    with pytest.raises(AnswerInvalid):
        scored(scorer_of(way, server))


@OIP_ALONE
def test_a_check_compares_the_model_with_what_is_sent(way, server):
    """Names, types and widths, where the protocol tells them."""
    names = ("price", "rate")
    assert run(misfit(scorer_of(way, server, output="score"), names)) == ""
    assert "rows of 3 numbers are sent" in run(misfit(scorer_of(way, server), (*names, "age")))
    assert "no input rows: it has input" in run(misfit(scorer_of(way, server, input="rows"), names))
    assert "no output ctr: it has score" in run(misfit(scorer_of(way, server, output="ctr"), names))


def test_a_token_goes_with_each_call(way, server, monkeypatch):
    """And one that is not there is named without a call."""
    monkeypatch.setenv("SHOP_TOKEN", "secret")
    scored(scorer_of(way, server, token_env="SHOP_TOKEN"))
    assert server.model.asked[-1].headers["authorization"] == "Bearer secret"
    with pytest.raises(MidstreamError, match="the environment has no SHOP_NONE, which token_env names"):
        scored(scorer_of(way, server, token_env="SHOP_NONE"))
