"""Candidates of a shop scored by real model servers: exact, refused in their words, answered while one is gone."""

import json
import re
import signal
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

from midstream.app.explain.explain import explain_request
from midstream.app.opening import config_to_read, open_shop
from midstream.core.errors import MidstreamError
from midstream.core.types import FeatureFrame, Models, Query, TimestampMs
from midstream.integrations.model_servers.remote_scorer import RemoteScorer, misfit
from midstream.state.settings import read_duration
from tests.integrations.test_servers import LOOPBACK, listening
from tests.support.closed_connectors import run
from tests.support.libraries import library
from tests.support.model_servers.models import right_scores
from tests.support.patience import PATIENCE_S
from tests.support.services.processes import family

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
WAYS = {
    "http": {},
    "http json": {"encoding": "json", "missing": -1.0},
    "grpc": {},
    "rest": {"protocol": "torchserve", "output": "", "missing": -1.0},
}
NO_BINARY = "mlserver"
"""It has no binary tensor extension over HTTP."""
OIP = [
    (name, way)
    for name in ("triton", "kserve", NO_BINARY)
    for way in ("http", "http json", "grpc")
    if (name, way) != (NO_BINARY, "http")
]
TORCHSERVE = ("torchserve", "rest")
SERVED = [*OIP, TORCHSERVE]
GONE = [
    (asked, gone)
    for asked in (("triton", "http"), ("triton", "grpc"), ("kserve", "http"), (NO_BINARY, "http json"), TORCHSERVE)
    for gone in ("frozen", "killed")
]
GONE.append((TORCHSERVE, "with a frozen worker"))
ASK_S_MAX = 60.0
QUERY = Query("r", "home", "ann", None, 20, TimestampMs(0), 1)
VALUES = np.random.default_rng(7).normal(size=(500, 40)).astype(np.float32)
VALUES[VALUES > 2.5] = np.nan
NAMES = tuple(f"f{number}" for number in range(40))
FEATURES = FeatureFrame(NAMES, VALUES)
DEADLINE_S = 0.5
FILE = """
[[features]]
name = "views"
kind = "count"
actions = ["view"]

[[placements]]
name = "home"
deadline = "500ms"
slate_size = 10
features = ["views"]
scorers = [{{ kind = "remote", {options} }}]

[limits]
users_max = 100
items_max = 1_000
click_items_max = 1_000
sessions_max = 100
event_ids_max = 1_000
"""


def url_of(server, way):
    """Return the address of a way."""
    if way != "grpc":
        return f"http://{server.host}:{server.ports['http']}"
    library("grpc")
    return f"grpc://{server.host}:{server.ports['grpc']}"


@pytest.fixture(name="asked", params=SERVED, ids=" ".join)
def _asked(servers, request):
    """Return a server that is ready, and the way in which it is asked."""
    name, way = request.param
    return servers(name), way


def options_of(server, way):
    """Return what a scorer of the server's model is configured with."""
    told = {"protocol": "oip", "url": url_of(server, way), "model": "ranker", "output": "score"} | WAYS[way]
    if told["protocol"] == "torchserve":
        told["management_url"] = f"http://{server.host}:{server.ports['management']}"
    return told


def scorer_of(server, way, **more):
    """Return a scorer of the server's model."""
    options = options_of(server, way) | {"kind": "remote", "output": "", "give_up": "20s"} | more
    return msgspec.convert(options, RemoteScorer, dec_hook=read_duration)


def test_scores_are_those_of_the_model(asked):
    """500 rows of 40 columns with missing values, whose model is known."""
    found = run(scorer_of(*asked).score(QUERY, FEATURES, Models({})))
    assert (found.dtype, found.shape) == (np.float32, (500,))
    assert np.allclose(found, right_scores(VALUES), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", sorted({name for name, _ in SERVED}))
def test_a_server_of_tests_listens_on_loopback_alone(servers, name):
    """Its ports are for the tests of one machine."""
    addresses = listening(servers(name).status().process)
    assert len(addresses) >= 1
    assert {each[-8:] for each in addresses} == {LOOPBACK}


@pytest.mark.parametrize("asked", OIP, indirect=True, ids=" ".join)
def test_a_check_knows_the_model_s_tensors(asked):
    """And the server's own words say what it refuses."""
    assert run(misfit(scorer_of(*asked), NAMES)) == ""
    assert "no input rows: it has input" in run(misfit(scorer_of(*asked, input="rows"), NAMES))
    with pytest.raises(MidstreamError, match=r"is not connected: .*(answered 400|nobody)"):
        run(scorer_of(*asked, model="nobody").score(QUERY, FEATURES, Models({})))


@pytest.mark.parametrize("asked", [each for each in OIP if each[0] == "triton"], indirect=True, ids=" ".join)
def test_a_server_says_which_tensor_it_misses(asked):
    """Where it compares names itself: KServe and MLServer leave that to the model."""
    with pytest.raises(MidstreamError, match="input"):
        run(scorer_of(*asked, input="rows").score(QUERY, FEATURES, Models({})))


@pytest.mark.parametrize("asked", [(NO_BINARY, "http")], indirect=True, ids=" ".join)
def test_a_server_without_the_binary_extension_fails_each_call(asked):
    """As MLServer does, which the settings of its scorer have to know."""
    with pytest.raises(MidstreamError, match="it answered 500"):
        run(scorer_of(*asked).score(QUERY, FEATURES, Models({})))


@pytest.mark.parametrize("asked", [TORCHSERVE], indirect=True, ids=" ".join)
@pytest.mark.parametrize(
    "more, said",
    [
        ({"model": "nobody"}, "is not connected: it answered 404: Model not found: nobody"),
        ({"version": "9.0"}, "is not connected: it answered 404: Model version: 9.0 does not exist for model: ranker"),
    ],
)
def test_torchserve_refuses_what_it_does_not_know_in_its_words(asked, more, said):
    """Whole, though its answers begin with the name of an exception."""
    with pytest.raises(MidstreamError, match=re.escape(said)):
        run(scorer_of(*asked, **more).score(QUERY, FEATURES, Models({})))
    assert len(run(scorer_of(*asked, version="1.0").score(QUERY, FEATURES, Models({})))) == 500


@pytest.mark.parametrize("asked", [TORCHSERVE], indirect=True, ids=" ".join)
def test_torchserve_is_ready_when_a_worker_is(asked):
    """Without one, and while one starts, nobody is asked for scores, though the server calls itself healthy."""
    server, _ = asked
    scorer = scorer_of(*asked)
    scale(server, 0, is_awaited=True)
    try:
        with pytest.raises(MidstreamError, match="none of its workers is ready: there is none"):
            run(scorer.score(QUERY, FEATURES, Models({})))
        with urllib.request.urlopen(f"http://{server.address}/ping", timeout=ASK_S_MAX) as answer:
            assert json.load(answer) == {"status": "Healthy"}
    finally:
        scale(server, 1, is_awaited=False)
    until, reasons, found = time.monotonic() + PATIENCE_S, set(), None
    while found is None and time.monotonic() < until:
        try:
            found = run(scorer.score(QUERY, FEATURES, Models({})))
        except MidstreamError as error:
            reasons.add(str(error).partition("none of its workers is ready: ")[2])
            time.sleep(0.05)
    assert reasons <= {"there is none", "UNLOADING"}
    assert found is not None
    assert np.allclose(found, right_scores(VALUES), rtol=1e-5, atol=1e-4)


def scale(server, workers, *, is_awaited):
    """Have TorchServe run so many workers of the model, at once or when it comes to it."""
    told = f"min_worker={workers}&max_worker={workers}&synchronous={json.dumps(is_awaited)}"
    address = f"http://{server.host}:{server.ports['management']}/models/ranker?{told}"
    with urllib.request.urlopen(urllib.request.Request(address, method="PUT"), timeout=ASK_S_MAX) as answer:
        assert answer.status in {200, 202}


@pytest.mark.parametrize("asked, gone", GONE, indirect=["asked"], ids=[f"{' '.join(who)} {how}" for who, how in GONE])
def test_requests_are_answered_while_it_is_gone(asked, tmp_path, gone):
    """Each in its time, from two threads without a pause; full again soon after it is back; reruns ask nobody."""
    server, way = asked
    options = ", ".join(f"{name} = {json.dumps(value)}" for name, value in options_of(server, way).items())
    (tmp_path / "midstream.toml").write_text(FILE.format(options=options))
    with open_shop(tmp_path, config_to_read(tmp_path)) as shop:
        shop.record([{"type": "view", "user_id": "bob", "item_id": f"item-{number:03d}"} for number in range(300)])
        full(shop)
        counts, took_s = Counter[str](), list[float]()

        def asking(until):
            while time.monotonic() < until:
                began = time.monotonic()
                answer = shop.recommend("home", user_id="eve")
                took_s.append(time.monotonic() - began)
                assert len(answer.items) == 10
                counts[answer.tier] += 1

        take_away(server, gone)
        try:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(asking, [time.monotonic() + 4.0] * 2))
        finally:
            server.up()
        back = time.monotonic()
        answer = full(shop)
        back_s = time.monotonic() - back
        shop.record({"type": "view", "user_id": "eve", "item_id": "item-003"})
    late = sum(each > DEADLINE_S for each in took_s)
    told = f"{sum(counts.values())} answers, {dict(counts)}, {late} late, longest {max(took_s):.2f} s"
    print(f"\n{server.system.name} {way} {gone}: {told}; full again after {back_s:.1f} s")
    assert counts["reduced"] == sum(counts.values()) > 10
    assert sorted(took_s)[int(0.98 * len(took_s))] < DEADLINE_S + 0.3
    server.freeze()
    try:
        assert explain_request(tmp_path, answer.request_id).differences == ()
    finally:
        server.thaw()


def take_away(server, gone):
    """Kill or freeze a server, or the processes alone that it started: then it takes calls, and answers none."""
    if gone == "with a frozen worker":
        _, *workers = family(server.status().process)
        assert workers
        for each in workers:
            each.send(signal.SIGSTOP)
    else:
        (server.freeze if gone == "frozen" else server.kill)()


def full(shop):
    """Return the first full answer."""
    until = time.monotonic() + PATIENCE_S
    while (answer := shop.recommend("home", user_id="eve")).tier != "full":
        assert time.monotonic() < until, answer.failures
        time.sleep(0.05)
    return answer
