"""A ranker goes on learning: what somebody does with an answer is in the scores of the next, all of it again."""

from collections.abc import Mapping
from pathlib import Path

import httpx
import numpy as np
import pytest

from midstream.app.explain.reruns import Reruns, logged_requests
from midstream.app.inspect.folder_view import LogView, state_from_the_beginning
from midstream.app.opening import config_of
from midstream.app.operate.model_registry import registry_of
from midstream.core.errors import Invalid
from midstream.engine.instance import Instance
from midstream.events.served_body import decode_body
from midstream.models.artifact.artifact import Draft
from midstream.models.artifact.golden import row_content
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import FtrlOptions, fit_ftrl
from midstream.models.rows.online_sums import HEAD
from midstream.serving.app import asgi
from tests.support.fakes.models import CALIBRATION, run_folder
from tests.support.patience import wait_on_loop

TOML = """
[feedback]
reward = { click = 1.0 }

[limits]
users_max = 100
items_max = 200
click_items_max = 100
sessions_max = 100
index_sessions_max = 100
event_ids_max = 1000
requests_max = 100
outcome_slates_max = 100
outcome_items_max = 2000
hot_items_max = 100
new_items_max = 100

[[features]]
name = "views"
kind = "count"
scope = "item"
actions = ["view"]

[[placements]]
name = "home"
features = ["views"]
scorers = [{ kind = "model", name = "ranker" }]
deadline = "10s"

[[models]]
name = "ranker"
kind = "ftrl"
placement = "home"
options = { bins = 8, is_standardised = false, l1 = 0.0, alpha = 0.5 }
online = {}
"""
OPTIONS = FtrlOptions(bins=8, is_standardised=False, l1=0.0, alpha=0.5)
ITEMS = 4


def publish(folder: Path, options: FtrlOptions = OPTIONS) -> str:
    """Publish a model of views, each item's number of which is a bin of its own."""
    values = np.tile(np.arange(1, ITEMS + 1, dtype=np.float32), 10)[:, np.newaxis]
    label = (np.arange(len(values)) % 10 == 0).astype(np.float32)
    model = fit_ftrl(Examples.of_rows(("views",), values, label), options)
    draft = Draft(name="ranker", kind="ftrl", inputs=model.inputs, options={}, calibration=CALIBRATION)
    return registry_of(folder).publish(draft, row_content(model, values[:8]))


class Visitor:
    """Somebody who asks over HTTP."""

    def __init__(self, running: Instance) -> None:
        """Ask a started shop."""
        self._running = running
        app = asgi(running.engine, lambda: running.service.accept)
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")

    async def asked(self, **more: object) -> tuple[str, dict[str, float]]:
        """Return the request of a slate, and its scores by item."""
        answer = (await self._client.post("/v1/recommendations", json={"placement": "home", "n": ITEMS, **more})).json()
        return answer["request_id"], {each["id"]: each["score"] for each in answer["items"]}

    async def did(self, *events: Mapping[str, object]) -> str:
        """Record events; return the log position behind them."""
        told = (await self._client.post("/v1/events", json=list(events))).json()
        return str(told["log_position"])

    async def served(self, count: int) -> None:
        """Wait until so many slates are in the log."""
        await wait_on_loop(lambda: len(self._running.engine.fold.outcomes) >= count)


async def viewed(visitor: Visitor) -> None:
    """Let each item have been viewed as often as its number says."""
    await visitor.did(
        *(
            {"type": "view", "user_id": "bob", "item_id": f"i{item}"}
            for item in range(1, ITEMS + 1)
            for _ in range(item)
        )
    )


def of(request: str, kind: str, *items: str) -> list[dict[str, object]]:
    """Return what ann did with items of a slate."""
    return [{"type": kind, "user_id": "ann", "request_id": request, "item_id": each} for each in items]


def test_an_outcome_is_in_the_scores_of_the_next_request(tmp_path: Path) -> None:
    """Whether kernels make the slate or the pipeline; through a restart and a rebuild; and each answer can be rerun."""
    (tmp_path / "midstream.toml").write_text(TOML)
    version = publish(tmp_path)

    async def work(running: Instance) -> dict[str, float]:
        visitor = Visitor(running)
        await viewed(visitor)
        await running.champions.promote("ranker")
        first, before = await visitor.asked()
        assert set(before) == {"i1", "i2", "i3", "i4"}
        metrics = running.engine.metrics.text().decode()
        assert 'midstream_compiled_answers_total{placement="home"} 1.0' in metrics
        position = await visitor.did(*of(first, "impression", *before), *of(first, "click", "i1"))
        _, after = await visitor.asked(min_log_position=position)
        assert after["i1"] > before["i1"]
        assert all(after[each] / before[each] < after["i1"] / before["i1"] for each in before if each != "i1")
        # An explanation is the pipeline's: the same sums, and the bins in its records as well.
        third, explained = await visitor.asked(explain=True, min_log_position=position)
        assert explained == after
        await visitor.did(*of(third, "click", "i4"), *of(third, "impression", "i4", "i3"))
        await visitor.served(3)
        _, last = await visitor.asked()
        assert last["i4"] > after["i4"]
        await visitor.served(4)
        assert running.engine.fold.online.totals["online_corrected"] == 1
        return last

    last = run_folder(tmp_path, work)
    config = config_of(tmp_path)
    anew = state_from_the_beginning(tmp_path, config, LogView(tmp_path))

    async def again(running: Instance) -> None:
        assert running.engine.fold.digest() == anew.digest()
        answer = await Visitor(running).asked()
        assert answer[1] == last
        await Visitor(running).served(5)

    run_folder(tmp_path, again)
    bodies = logged_requests(LogView(tmp_path), config, 10)
    told = [decode_body(body) for body in bodies]
    assert len(told) == 5
    for each in told:
        (bins,) = each.bins
        assert len(bins) == HEAD.size + len(each.ids)
        assert each.models == {"ranker": version}
    reruns = Reruns(tmp_path)
    assert [reruns.again(body).differences for body in bodies] == [()] * 5


def test_an_explanation_has_the_parts_of_the_score_that_was_given(tmp_path: Path) -> None:
    """Their sum, linked, is the score with what was learned, not that of the version."""
    (tmp_path / "midstream.toml").write_text(TOML)
    publish(tmp_path)

    async def work(running: Instance) -> None:
        visitor = Visitor(running)
        await viewed(visitor)
        await running.champions.promote("ranker")
        first, before = await visitor.asked()
        position = await visitor.did(*of(first, "impression", *before), *of(first, "click", "i1"))
        answer = (
            await visitor._client.post(
                "/v1/recommendations",
                json={"placement": "home", "explain": True, "min_log_position": position},
            )
        ).json()
        for item, why in zip(answer["items"], answer["explanation"]["items"], strict=True):
            total = why["parts"]["base"] + sum(why["parts"]["parts"].values())
            assert 1 / (1 + np.exp(-total)) == pytest.approx(item["score"], rel=1e-5)

    run_folder(tmp_path, work)


def test_a_version_that_cannot_go_on_is_not_promoted(tmp_path: Path) -> None:
    """A version of before ``online`` was set: the one in service stays, and the answer says what would be right."""
    (tmp_path / "midstream.toml").write_text(TOML)
    publish(tmp_path, FtrlOptions(bins=4))

    async def work(running: Instance) -> None:
        position = running.engine.fold.log_position
        with pytest.raises(Invalid, match="is_standardised"):
            await running.champions.promote("ranker")
        assert running.engine.fold.log_position == position
        assert running.champions.versions == {}

    run_folder(tmp_path, work)
