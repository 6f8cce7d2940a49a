"""Scorers on model servers, through a folder: requests answered in time, failures named, reruns that ask nobody."""

import asyncio
import json
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from midstream.app.config.reader import parse_config
from midstream.app.explain.explain import explain_request
from midstream.app.opening import config_to_read, open_shop
from midstream.app.wiring import plans
from midstream.cli.operate.check import check_folder
from midstream.core.errors import ConfigInvalid
from midstream.core.types import Query, TimestampMs
from midstream.evaluation.replay import asking_plan
from midstream.integrations.model_servers.remote_scorer import RemoteScorer
from midstream.state.fold import Fold
from tests.support.model_servers.models import OipHttpModel, right_scores
from tests.support.model_servers.servers import HttpServer, running
from tests.support.patience import PATIENCE_S

FILE = """
[[features]]
name = "price"
kind = "item_field"

[[features]]
name = "views"
kind = "count"
actions = ["view"]

[[placements]]
name = "home"
deadline = "{deadline}"
slate_size = 10
features = ["price", "views"]
scorers = [{{ kind = "remote", name = "triton", protocol = "oip", url = "{url}", model = "ranker"{more} }}]

[[placements]]
name = "plain"
slate_size = 10
features = ["price", "views"]

[limits]
users_max = 100
items_max = 1_000
click_items_max = 1_000
sessions_max = 100
event_ids_max = 1_000
"""
ITEMS = [f"item-{number:02d}" for number in range(30)]
HOSTILE = (
    "silent",
    "dribble",
    "closed",
    "error",
    "garbage",
    "half",
    "huge",
    "nested",
    "short",
    "long",
    "nan",
    "integers",
    "flat",
)


@pytest.fixture(name="server")
def _server():
    with running(HttpServer, OipHttpModel()) as server:
        yield server


DEADLINE_S = 1.0
"""A step that holds the thread for half of it benches the scorer, also where a busy machine did not run that step."""


BENCH_S = 1.0
"""For so long a scorer is not asked that failed: how long it is without a test is proven on clocks, by its own."""


def soon_tried(shop):
    """Have a scorer that failed tried again after less than the usual time."""
    guards = shop.running.engine.guards
    guards._options = replace(guards._options, fetch_bench_s=BENCH_S)


def timed(asked):
    """Return an answer, and how long it took."""
    began = time.monotonic()
    return asked(), time.monotonic() - began


def write(folder: Path, server, *, deadline="10s", more=""):
    (folder / "midstream.toml").write_text(FILE.format(url=server.url, deadline=deadline, more=more))


def opened(folder):
    return open_shop(folder, config_to_read(folder))


def filled(shop):
    """Record views, the more the later the item."""
    shop.record(
        [
            {"type": "view", "user_id": f"u{n % 7}", "item_id": each}
            for n, each in enumerate(ITEMS)
            for _ in range(n // 10 + 1)
        ]
    )
    return shop


def ready(shop):
    """Wait for the first answer with scores of the server."""
    until = time.monotonic() + PATIENCE_S
    while (answer := shop.recommend("home", user_id="eve", deadline_ms=5_000)).tier != "full":
        assert time.monotonic() < until, answer.failures
        time.sleep(0.05)
    return answer


def scorer_of(shop, answer):
    """Return which scorer answered, behind the records of all answers."""
    shop.record({"type": "view", "user_id": "nobody", "item_id": "item-03"})
    return shop._call(lambda: shop.running.engine.served(answer.request_id)).scorer


def test_a_slate_has_the_order_of_the_server_and_its_rerun_asks_nobody(server, tmp_path):
    """To the bit, with the server gone; explained too."""
    write(tmp_path, server)
    with opened(tmp_path) as shop:
        filled(shop)
        ready(shop)
        answer = shop.recommend("home", user_id="eve", items=["item-03"])
        assert (answer.tier, answer.failures) == ("full", ())
        asked = len(server.model.rows)
        scores = sorted(right_scores(server.model.rows[-1]).tolist(), reverse=True)[:10]
        assert [each.score for each in answer.items] == pytest.approx(scores, rel=1e-6)
        assert scorer_of(shop, answer) == "triton"
    server.stop()
    told = explain_request(tmp_path, answer.request_id, ("item-00",))
    assert (told.identical, told.differences) == (True, ())
    assert told.why is not None
    assert len(server.model.rows) == asked


def test_pages_and_items_of_the_caller_are_run_again_exactly(server, tmp_path):
    """Each slate of a page has scores of its own candidates."""
    write(tmp_path, server)
    with opened(tmp_path) as shop:
        filled(shop)
        ready(shop)
        ranked = shop.rank(["item-07", "item-02", "unknown", "item-20"], "home", user_id="eve")
        page = shop.page(["plain", "home"], user_id="eve")
        assert [scorer_of(shop, each) for each in (ranked, *page.slates)] == ["triton", "blend", "triton"]
    server.stop()
    for each in (ranked.request_id, page.slates[1].request_id):
        assert explain_request(tmp_path, each).differences == ()


@pytest.mark.parametrize("mode", HOSTILE)
def test_whatever_a_server_does_each_request_is_answered_in_its_time(server, tmp_path, mode):
    """By the next scorer, with the server's failure named; and by the server again when it is well.

    Beside each request the same is asked without the server: what a busy machine adds, it adds to both.
    """
    write(tmp_path, server, deadline=f"{DEADLINE_S * 1_000:.0f}ms", more=', give_up = "200ms", timeout = "20s"')
    with opened(tmp_path) as shop:
        filled(shop)
        ready(shop)
        soon_tried(shop)
        server.model.mode = mode
        plain_s, more_s, reasons = [], [], []
        for _ in range(12):
            plain, beside_s = timed(lambda: shop.recommend("plain", user_id="eve"))
            answer, took_s = timed(lambda: shop.recommend("home", user_id="eve"))
            assert len(answer.items) == len(plain.items) == 10
            assert (answer.tier, answer.failures[0].component) == ("reduced", "triton")
            plain_s.append(beside_s)
            more_s.append(took_s - beside_s)
            reasons.append(answer.failures[0].reason)
        asked_s = [each for each, reason in zip(more_s, reasons, strict=True) if reason != "benched"]
        assert 0 < len(asked_s) < 12, reasons
        assert median(asked_s) < 2 * DEADLINE_S + median(plain_s), (asked_s, plain_s)
        server.model.mode = "right"
        ready(shop)


def test_a_failure_of_a_server_is_in_the_record(server, tmp_path):
    """So the rerun leaves the server out as well, and gives the same slate."""
    write(tmp_path, server)
    with opened(tmp_path) as shop:
        filled(shop)
        ready(shop)
        server.model.mode = "nan"
        answer = shop.recommend("home", user_id="eve")
        assert answer.failures[0].reason == "AnswerInvalid: 1 of 30 scores are no numbers"
        assert scorer_of(shop, answer) == "blend"
    server.model.mode = "right"
    asked = len(server.model.rows)
    assert explain_request(tmp_path, answer.request_id).differences == ()
    assert len(server.model.rows) == asked


def test_a_placement_from_elsewhere_asks_servers_of_the_file_alone(server, tmp_path):
    """Another address, or another secret, would carry columns and tokens to whom its author likes."""
    write(tmp_path, server)
    scorer = {"kind": "remote", "name": "triton", "protocol": "oip", "url": server.url, "model": "ranker"}
    with opened(tmp_path) as shop:
        filled(shop)
        for more in ({"url": "http://127.0.0.1:1"}, {"token_env": "HOME"}, {"model": "admin"}):
            with pytest.raises(ConfigInvalid) as caught:
                shop.set_placement("set", {"features": ["price"], "scorers": [scorer | more]}, author="mallory")
            ((where, came),) = [(each.where, each.came) for each in caught.value.faults]
            assert where.endswith("scorers[0].url")
            assert "is asked by no placement of midstream.toml" in came
        placed = {"features": ["price"], "slate_size": 5, "scorers": [scorer | {"columns": ["price"], "name": "again"}]}
        shop.set_placement("set", placed, author="ann")
        ready(shop)
        answer = shop.recommend("set", user_id="eve", deadline_ms=5_000)
        assert scorer_of(shop, answer) == "again"
        assert server.model.rows[-1].shape[1] == 1
    (tmp_path / "midstream.toml").write_text(FILE.format(url="http://127.0.0.1:1", deadline="10s", more=""))
    assert explain_request(tmp_path, answer.request_id).differences == ()  # a rerun asks nobody


def test_whoever_looks_back_asks_no_server(server, tmp_path):
    """An evaluation names the scorer among what did not answer."""
    write(tmp_path, server)
    with opened(tmp_path) as shop:
        filled(shop)
    config = config_to_read(tmp_path)
    made = plans(config, tmp_path)["home"]
    failures = Counter[str]()
    fold = Fold(config.fold_settings())
    query = Query("r", "home", "eve", None, 10, TimestampMs(0), 1)

    async def replayed():
        return await asking_plan(made, failures)(fold, query)

    asyncio.run(replayed())
    assert failures == {"triton": 1}
    assert not server.model.rows


def test_a_check_asks_a_server_when_it_is_told_to(server, tmp_path):
    """And then says what of its model does not fit."""
    write(tmp_path, server)
    with opened(tmp_path) as shop:
        filled(shop)

    def found(*, connect):
        return [
            (each.problem, each.warning)
            for each in check_folder(tmp_path, connect=connect).findings
            if each.part == "triton"
        ]

    asked = len(server.model.rows)
    assert found(connect=False) == [("", "its server was not asked; --connect asks it")]
    assert len(server.model.rows) == asked
    assert found(connect=True) == [("", "")]
    server.model.mode = "short"
    assert "AnswerInvalid" in found(connect=True)[0][0]
    server.model.mode = "right"
    write(tmp_path, server, more=', output = "ctr"')
    assert "the model has no output ctr: it has score" in found(connect=True)[0][0]
    server.stop()
    assert "is not connected" in found(connect=True)[0][0]


def faults(text):
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(text)
    return [(each.where, each.came) for each in caught.value.faults]


JSON = "It is not set, rows go as JSON, and JSON has no NaN."


@pytest.mark.parametrize(
    "more, place, came",
    [
        ({"url": "ftp://a"}, "url", 'An address of the scheme "ftp" came.'),
        ({"url": "http://ann:secret@triton:8000"}, "url", "It has a password in it."),
        ({"url": "http://ann@triton:8000"}, "url", "It has a user in it."),
        ({"url": "admin:hunter2@triton:8000"}, "url", "It has a password in it."),
        ({"url": "http://ann:hunt/er2@triton:8000"}, "url", "It has a password in it."),
        ({"url": "triton"}, "url", "No scheme came."),
        ({"url": "http://a;b:8000"}, "url", "It has characters that no name of a host has."),
        ({"missing": 1e300}, "missing", "1e+300 came."),
        ({"url": "http://a,b:8000"}, "url", "2 hosts came."),
        ({"url": "grpc://triton:8001/v2"}, "url", '"/v2" came behind the port.'),
        ({"protocol": "torchserve", "url": "grpc://a:1"}, "url", 'An address of the scheme "grpc" came.'),
        ({"encoding": "json"}, "missing", JSON),
        ({"protocol": "tensorflow_serving"}, "missing", JSON),
        ({"protocol": "torchserve"}, "missing", JSON),
        ({"url": "grpc://a:1", "encoding": "json"}, "encoding", '"json" came with gRPC.'),
        ({"signature": "s"}, "signature", 'protocol = "oip" does not read it.'),
        ({"management_url": "http://a:1"}, "management_url", 'protocol = "oip" does not read it.'),
        ({"model": "../admin"}, "model", '"../admin" came.'),
        ({"version": "1/infer"}, "version", '"1/infer" came.'),
        ({"protocol": "tensorflow_serving", "version": "a", "missing": 0.0}, "version", '"a" came.'),
        ({"columns": ["price", "rates"]}, "columns[1]", '"rates" is no column of the placement.'),
        ({"columns": ["price", "price"]}, "columns[1]", '"price" is there already.'),
        ({"token_env": "s3cr3t-token"}, "token_env", "It is no name of a variable of the environment."),
        ({"tls_ca": "ca.pem"}, "tls_ca", '"ca.pem" came, and the address has no TLS.'),
    ],
)
def test_settings_that_cannot_be_right_are_refused(more, place, came):
    """With the place and what came, and no secret in it."""
    settings = {"protocol": "oip", "url": "http://triton:8000", "model": "ranker"} | more
    scorer = ", ".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    text = FILE.format(url="", deadline="50ms", more="")
    start = text.index("scorers = ")
    text = text[:start] + f'scorers = [{{ kind = "remote", {scorer} }}]' + text[text.index("\n", start) :]
    ((where, told),) = faults(text)
    assert where.endswith(f"placements[0].scorers[0].{place}")
    assert told.startswith(came)


def test_a_placement_without_features_has_nothing_to_send():
    """It is refused when the configuration is read."""
    text = FILE.format(url="http://triton:8000", deadline="50ms", more="").replace(
        'features = ["price", "views"]\nscorers', "scorers"
    )
    assert [each for _, each in faults(text)] == ["The placement reads no features, so there is nothing to send."]


def test_the_example_of_the_page_is_read_and_each_setting_is_on_it():
    """With a server, and a model behind it."""
    page = (Path(__file__).parents[2] / "docs" / "model-servers.md").read_text("utf-8")
    found = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert found
    scorer = parse_config(found[1]).placements[0].scorers[0]
    assert isinstance(scorer, RemoteScorer)
    assert scorer.output == "score"
    settings = page.partition("## Settings")[2].partition("\n## ")[0]
    assert [each for each in RemoteScorer.__struct_fields__ if f"`{each}`" not in settings] == []
