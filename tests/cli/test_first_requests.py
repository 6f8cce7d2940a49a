"""What ``midstream serve`` prints to try is taken by the server that prints it, whatever its configuration says."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from midstream.app.config.reader import parse_config
from midstream.app.opening import config_of
from midstream.cli.answers.serve import first_requests, print_ready, reach_text
from midstream.serving.app import asgi
from tests.support.fakes.models import CONFIG, run_folder

LIMITS = CONFIG.partition("[[placements]]")[0]
"""A small state."""


def ready_of(config, placements=("default",), item_id=None, log_position=0):
    """Return what a server tells when it takes requests."""
    started = SimpleNamespace(seconds=0.1, torn_tail="", instead_of="", refused_snapshots=())
    told: Any = SimpleNamespace(
        url="http://127.0.0.1:8765",
        log_position=log_position,
        started=started,
        placements=placements,
        item_id=item_id,
        config=config,
    )
    return told


def curls(lines: Sequence[str]) -> list[list[str]]:
    """Return the words of each command that is printed."""
    told = "\n".join(lines).splitlines()
    return [shlex.split(line) for line in told if line.strip().startswith("curl ")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[events.types]\nplay = { weight = 1.0 }\nskip = { weight = -1.0 }\n",
        '[events.types]\n"it\'s" = { weight = 2.0 }\n',
        "[events.types]\ndismiss = { weight = -1.0 }\n",
        '[items]\nunknown_items = "reject"\n',
        '[items]\nunknown_items = "hold"\n[[placements]]\nname = "a b&c"\n',
    ],
)
def test_the_printed_requests_are_taken(tmp_path, text):
    """Posted exactly as printed to a server of that configuration: the event is recorded, and there is a slate."""
    (tmp_path / "midstream.toml").write_text(LIMITS + text)
    config = config_of(tmp_path)
    placements = tuple(each.name for each in config.placements)
    event, question = curls(list(first_requests(ready_of(config, placements), tmp_path)))
    header, body = event[event.index("-H") + 1], event[event.index("-d") + 1]

    async def work(running):
        app = asgi(running.engine, lambda: running.service.accept)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client:
            name, _, value = header.partition(": ")
            taken = await client.post("/v1/events", content=body, headers={name: value})
            return taken, await client.get(question[-1])

    taken, slate = run_folder(tmp_path, work)
    assert (taken.status_code, taken.json()["recorded"]) == (200, 1), taken.text
    assert slate.status_code == 200, slate.text


def test_the_event_is_a_good_one():
    """Of several types the usual one, else that of most weight; of an item that is known where one is."""
    config = parse_config("[events.types]\nplay = { weight = 1.0 }\nskip = { weight = -1.0 }\n")
    event, _ = curls(list(first_requests(ready_of(config, item_id="song", log_position=3), Path())))
    assert json.loads(event[-1]) == {"type": "play", "session_id": "s1", "item_id": "song"}


@pytest.mark.parametrize(
    "host, words",
    [
        ("127.0.0.1", ""),
        ("0.0.0.0", "listening on 0.0.0.0, port 8765: every address of this machine, also from outside"),  # noqa: S104
        ("::", "listening on ::, port 8765: every address of this machine, also from outside"),
        ("192.168.1.5", "listening on 192.168.1.5, port 8765, also from outside"),
    ],
)
def test_who_can_reach_it_is_printed(tmp_path, capfd, host, words):
    """The URL that works from this machine, and beside it what it is bound to."""
    assert reach_text(host, "http://127.0.0.1:8765") == words
    print_ready(ready_of(parse_config("")), tmp_path, host)
    said = capfd.readouterr().out
    assert words in said
    assert "http://127.0.0.1:8765" in said
