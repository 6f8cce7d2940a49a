"""Panels of the dashboards on a real Prometheus that scrapes real servers: each has data, or is known to have none.

Queries are asked as Grafana asks them: over a range, with values in place of the variables.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]  # the package brings no types

from midstream.app.server_address import read_address
from tests.deploy.test_dashboards import DASHBOARDS, panels, variables
from tests.support.alerts.promtool import promtool
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.served_shop import served_shop

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]

SHOP = """
[limits]
users_max = 1_000
items_max = 2_000
click_items_max = 1_000
sessions_max = 1_000
event_ids_max = 1_000

[probe]
every = "1s"
"""
RATE = "10s"
"""In place of ``$__rate_interval``: four scrapes and more, as Grafana takes it."""
LOAD_S = 15.0
NOT_THERE = {
    "midstream_input_": "no input is configured",
    "midstream_output_": "no output is configured",
    "midstream_sink_": "no sink is configured",
    "midstream_shared_log_": "the log is the server's own",
    "midstream_follower_": "the server is one process",
    "midstream_trace_": "no collector of traces is configured",
    "midstream_training": "nothing is trained",
    "midstream_model_version": "no placement reads a model",
    "midstream_feature_read_": "no placement reads features",
    "midstream_feature_psi": "no placement reads features",
    "midstream_feature_null_": "no placement reads features",
    "midstream_online_drift": "it is compared with days before",
    "midstream_online_click_rate": "slates settle after half an hour",
    "midstream_online_conversion_rate": "slates settle after half an hour",
    "midstream_online_revenue_": "slates settle after half an hour",
    "midstream_probe_": "written by `midstream probe`, which another job scrapes",
    "midstream_backup_": "written by `midstream backup`, which another job scrapes",
}
"""Why these have no data here, and so their panels."""
FAULTS = (
    'status=~"5.."',
    "midstream_append_failures_",
    "midstream_background_errors_",
    "midstream_connection_faults_",
    "midstream_key_refusals_",
    "midstream_overloads_",
    "midstream_part_failures_",
    "midstream_part_overruns_",
    "midstream_refusals_",
)
"""Series that begin with the first fault of their label: of servers that are well there may be none."""


class Prometheus:
    """A running Prometheus with some targets."""

    def __init__(self, url: str) -> None:
        """Ask the one at an address."""
        self.url = url

    def ask(self, path: str, **parameters: Any) -> Any:
        """Return the data of an answer of its API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def series(self, expression: str) -> list[Any]:
        """Return the series of a graph of the last half minute."""
        now = time.time()
        found = self.ask("query_range", query=expression, start=now - 30, end=now, step=1)
        return [each for each in found["result"] if any(value != "NaN" for _, value in each["values"])]


def free_port() -> int:
    """Return a port of loopback that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def running(words: list[str], folder: Path, is_ready: Callable[[], object]) -> Generator[None]:
    """Run a program until the block ends."""
    with (folder / "said.txt").open("w") as output:
        process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=output)

    def is_up() -> object:
        assert process.poll() is None, (folder / "said.txt").read_text()
        with suppress(httpx.TransportError):
            return is_ready()
        return False

    try:
        wait_until(is_up)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def midstream(*words: str) -> str:
    """Run a command to its end; return what it prints."""
    command = [sys.executable, "-P", "-m", "midstream", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout.strip()


@contextmanager
def served_tenant(folder: Path) -> Generator[tuple[str, str, str]]:
    """Serve one tenant; the value is the address of the port, the tenant's key and one that may read metrics."""
    (folder / "shop.toml").write_text(SHOP, "utf-8")
    shops = ("--folder", str(folder))
    key = midstream("tenants", "create", "red", "--config", str(folder / "shop.toml"), *shops).split()[0]
    reader = midstream("keys", "create", "prometheus", "--scope", "read", *shops).split()[0]
    urls: list[str] = []

    def is_ready() -> bool:
        address = read_address(folder / "data")
        urls[:] = [address.url] if address else []
        return bool(urls) and httpx.get(f"{urls[0]}/health/ready").status_code == 200

    words = [sys.executable, "-P", "-m", "midstream", "serve", "--tenants", str(folder), "--port", "0"]
    with running(words, folder, is_ready):
        yield urls[0], key, reader


def load(client: httpx.Client, seconds: float) -> None:
    """Act and ask as visitors do, with an event that is refused now and then."""
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        number += 1
        session, item = f"s{number % 50}", f"i{number % 40}"
        for event in (
            {"type": "view", "session_id": session, "item_id": item},
            {"type": "click", "session_id": session, "item_id": f"i{(number + 1) % 40}"},
        ):
            assert client.post("/v1/events", json=event).status_code in {200, 202}
        if number % 10 == 0:
            assert client.post("/v1/events", json={"type": "view", "item_id": ""}).status_code >= 400
        assert client.get("/v1/recommendations", params={"session_id": session, "n": 5}).status_code == 200
        time.sleep(0.02)


@contextmanager
def prometheus(folder: Path, shop: str, tenants: str, reader: str) -> Generator[Prometheus]:
    """Run Prometheus with the rules that are shipped, on two servers, each second."""
    document = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text("utf-8"))
    document["global"] = {"scrape_interval": "1s", "evaluation_interval": "2s"}
    document["rule_files"] = [str((ROOT / "deploy" / "prometheus" / "rules.yaml").resolve())]
    own, _ = document["scrape_configs"]
    assert own["job_name"] == "midstream"
    own["static_configs"] = [{"targets": [httpx.URL(shop).netloc.decode()]}]
    other = {"targets": [httpx.URL(tenants).netloc.decode()], "labels": {"job": "midstream"}}
    document["scrape_configs"] = [
        own,
        {"job_name": "tenants", "authorization": {"credentials": reader}, "static_configs": [other]},
    ]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(document), "utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    words = [
        str(Path(promtool()).with_name("prometheus")),
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={httpx.URL(url).netloc.decode()}",
    ]
    with running(words, folder, lambda: httpx.get(f"{url}/-/ready").status_code == 200):
        yield Prometheus(url)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Generator[Prometheus]:
    """A Prometheus that has scraped a server and one of tenants under a little load."""
    promtool()  # skips before anything is started
    folders = [tmp_path_factory.mktemp(name) for name in ("shop", "shops", "prometheus")]
    # Figures of slates come a second after a start, and then each minute.
    with served_shop(folders[0], SHOP) as shop, httpx.Client(base_url=shop) as visitor:
        load(visitor, LOAD_S / 10)
    with (
        served_shop(folders[0], SHOP) as shop,
        served_tenant(folders[1]) as (tenants, key, reader),
        prometheus(folders[2], shop, tenants, reader) as found,
        httpx.Client(base_url=shop) as visitor,
        httpx.Client(base_url=f"{tenants}/t/red", headers={"authorization": f"Bearer {key}"}) as other,
    ):
        for _ in range(5):
            load(visitor, LOAD_S / 10)
            load(other, LOAD_S / 10)
        yield found


def values(found: Prometheus, name: str) -> dict[str, str]:
    """Return what Grafana puts in place of the variables of a dashboard: all of each, or the first one."""
    given: dict[str, str] = {}
    for variable, document in variables(name).items():
        if document["type"] != "query":
            continue
        inner, _, label = document["query"]["query"].removeprefix("label_values(").removesuffix(")").rpartition(", ")
        choices = found.ask(f"label/{label}/values", **{"match[]": replaced(inner, given)})
        assert choices, f"{name} has nothing to choose for {variable}"
        given[variable] = "|".join(choices) if document.get("includeAll") else choices[0]
    return given


def replaced(expression: str, given: dict[str, str]) -> str:
    """Return an expression with values in place of its variables."""
    text = expression.replace("$__rate_interval", RATE)
    for variable, value in given.items():
        text = text.replace(f"${variable}", value)
    assert "$" not in text, text
    return text


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_data(watched: Prometheus, name: str) -> None:
    """Each query of a panel has data, but those of what there is not here and those of faults."""
    given = values(watched, name)
    expressions = [target["expr"] for panel in panels(name) for target in panel["targets"]]
    empty = {text for text in expressions if not watched.series(replaced(text, given))}
    not_there = {text for text in expressions if any(part in text for part in NOT_THERE)}
    assert not_there <= empty, "has data, and is said to have none"
    assert [text for text in empty - not_there if not any(part in text for part in FAULTS)] == []
    assert len(set(expressions) - empty) > len(expressions) / 3


def test_shipped_rules_are_evaluated(watched: Prometheus) -> None:
    """By servers that run: each rule, without a fault, and no alert pages somebody."""
    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules(watched)))
    assert len(rules(watched)) > 60
    assert {rule["health"] for rule in rules(watched)} == {"ok"}
    alerts = watched.ask("alerts")["alerts"]
    assert [each for each in alerts if each["state"] == "firing" and each["labels"]["severity"] == "page"] == []


def rules(found: Prometheus) -> list[Any]:
    """Return all rules with their health."""
    return [rule for group in found.ask("rules")["groups"] for rule in group["rules"]]
