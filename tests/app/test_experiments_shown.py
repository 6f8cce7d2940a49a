"""Experiments over HTTP and from the command line: the same orders, units counted in the log, faults with places."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import midstream
from midstream.app.inspect.experiment_units import ExperimentSpan, read_units, segments_of
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import config_of, open_running
from midstream.app.operate.experiments import list_experiments, show_experiment
from midstream.app.operate.shown_experiment import shown_experiment
from midstream.cli import console
from midstream.cli.app import main
from midstream.core.errors import NotFound, RequestInvalid
from midstream.core.types import LogPosition
from midstream.engine.instance import Instance
from midstream.serving.app import Maintenance, asgi
from tests.support.fakes.rebuilds import write_config

HOME = '[[placements]]\nname = "home"\nslate_size = 5\n[[placements.sources]]\nkind = "popular"\n'
ORDER = """
placement = "home"
[[variants]]
name = "as-is"
[[variants]]
name = "few"
[variants.placement]
slate_size = 2
sources = [{ kind = "popular" }]
"""
BODY: dict[str, Any] = {
    "placement": "home",
    "variants": [{"name": "as-is"}, {"name": "few", "placement": {"slate_size": 2, "sources": [{"kind": "popular"}]}}],
    "author": "ann",
}
VIEWS = [{"type": "view", "user_id": "u", "item_id": f"i{n}", "event_id": f"{n}"} for n in range(9)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one placement and nine items."""
    write_config(tmp_path, HOME)
    with midstream.open(tmp_path) as shop:
        shop.record(VIEWS)
    return tmp_path


def test_experiments_over_http(folder: Path) -> None:
    """Start, show, ramp, stop and holdout; a fault has a pointer into the body."""

    async def work(running: Instance) -> None:
        upkeep = Maintenance(running.rebuilder, experimenting=running.experimenting)
        app = asgi(running.engine, lambda: running.service.accept, upkeep=upkeep)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            path = "/v1/experiments/size"
            assert (await client.get(path)).status_code == 404
            bad = await client.post(path, json={**BODY, "ramp": [{"exposed": 2}]})
            assert (bad.status_code, [each["pointer"] for each in bad.json()["errors"]]) == (400, ["/ramp/0/exposed"])
            assert (await client.post(path, json={**BODY, "share": "x"})).status_code == 400
            started = await client.post(path, json={**BODY, "ramp": [{"exposed": 0.5}]})
            assert (started.status_code, started.json()["state"], started.json()["exposed"]) == (200, "running", 0.5)
            ramped = await client.post(f"{path}/ramp", json={"ramp": [{"exposed": 1}], "author": "bob"})
            assert (ramped.json()["exposed"], ramped.json()["author"]) == (1.0, "bob")
            answer = (await client.post("/v1/recommendations", json={"placement": "home", "user_id": "x"})).json()
            assert (answer["placement"], answer["experiment"]) == ("home", "size")
            assert len(answer["items"]) == {"as-is": 5, "few": 2}[answer["variant"]]
            held = await client.put("/v1/holdout", json={"share": 0.1, "placements": ["home"], "author": "ann"})
            assert (held.status_code, held.json()["share"]) == (200, 0.1)
            listed = (await client.get("/v1/experiments")).json()
            assert ([each["name"] for each in listed["experiments"]], listed["holdout"]["share"]) == (["size"], 0.1)
            assert (await client.delete("/v1/holdout?author=ann")).json()["holdout"] is None
            assert (await client.delete("/v1/holdout?author=ann")).status_code == 404
            stopped = await client.post(f"{path}/stop", json={"reason": "harm", "author": "eve"})
            assert (stopped.json()["state"], stopped.json()["reason"]) == ("stopped", "harm")

    async def main_() -> None:
        async with open_running(folder, config_of(folder)) as running:
            await work(running)

    asyncio.run(main_())


def test_units_and_what_they_did_are_counted_from_the_log(folder: Path) -> None:
    """By variant, after merges, from the first exposure on; what was before is the past; a unit of two is in none."""
    with midstream.open(folder) as shop:
        shop.record([{"type": "view", "user_id": "user-1", "item_id": "i1"}] * 1)
        shop.experiments.start("size", **BODY)
        had = {}
        for number in range(60):
            had[f"user-{number}"] = shop.recommend("home", user_id=f"user-{number}").variant
        shop.recommend("home", user_id="user-1")
        shop.recommend("home", session_id="s")
        shop.recommend("home")
        shop.record({"type": "view", "user_id": "user-1", "item_id": "i2"})
        shop.record({"type": "view", "user_id": "never-exposed", "item_id": "i2"})
        few = next(user for user, variant in had.items() if variant == "few" and user != "user-1")
        other = next(user for user, variant in had.items() if variant == "as-is" and user != "user-1")
        shop.record({"type": "user", "operation": "merge", "user_id": few, "attributes": {"from": other}})
        view = shop.experiments.show("size")
    found = shown_experiment(folder, config_of(folder), "size")
    assert found.units is not None
    assert (sum(found.units), found.crossed_units, sum(found.slates)) == (59, 1, 62)
    assert found.slates == tuple(each.slates for each in view.variants)
    assert found.sample_ratio is not None
    assert not found.sample_ratio.is_failed
    assert sum(found.sample_ratio.counts) == 59
    log = LogView(folder)
    fold = state_of(folder, config_of(folder), log).fold
    placements = [each.placement for each in view.variants]
    units = read_units(log, fold, placements, ExperimentSpan(LogPosition(0), view.began_ms))
    column = units.names.index("view")
    unit = int(np.flatnonzero(units.table.unit == fold.vocabulary.user_hash_of("user-1"))[0])
    assert (units.table.columns[0, unit], units.table.columns[column, unit], units.past[column, unit]) == (2, 1, 1)
    assert units.table.columns[column].sum() == 1


def test_units_are_told_apart_by_the_context_of_their_first_slate(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a later request says may be an effect of the variant; a request without the key has a segment too."""
    monkeypatch.setattr(console.out.rich, "width", 130)
    with midstream.open(folder) as shop:
        shop.experiments.start("size", **BODY)
        for number in range(60):
            context = {} if number % 3 == 0 else {"country": "no" if number % 3 == 1 else "se", "app": number % 2 == 0}
            shop.recommend("home", user_id=f"user-{number}", context=context)
            shop.recommend("home", user_id=f"user-{number}", context={"country": "dk"})
    found = shown_experiment(folder, config_of(folder), "size", ("country", "app"))
    assert found.report is not None
    (few,) = found.report.variants
    assert {each.segment: each.comparison.units for each in few.segments} == {
        "country=none": 20, "country=no": 20, "country=se": 20, "app=none": 20, "app=True": 20, "app=False": 20,
    }  # fmt: skip
    assert not any(each.is_shown for each in few.segments)
    with pytest.raises(SystemExit):
        main(["experiments", "show", "size", "--segment", "country", "--folder", str(folder)])
    said = capfd.readouterr().out
    assert all(f"country={each}" in said for each in ("none", "no", "se"))
    assert "too few units" in said
    with pytest.raises(RequestInvalid, match="At most 8"):
        shown_experiment(folder, config_of(folder), "size", ("a",) * 9)
    with pytest.raises(RequestInvalid, match="without --no-units"):
        shown_experiment(folder, config_of(folder), "size", ("country",), counts_units=False)


def test_small_segments_of_a_key_are_one() -> None:
    """The largest values have a segment each; every unit is in one of each key."""
    values = [(f"v{number % 30}", "x") for number in range(600)] + [("v0", "x")] * 5 + [("other", "x")]
    found = segments_of(("page", "kind"), values)
    assert list(found)[:1] == ["page=v0"]
    assert (len(found), int(found["page=v0"].sum()), int(found["page=other"].sum())) == (22, 25, 201)
    assert (np.sum([each for name, each in found.items() if name.startswith("page=")], axis=0) == 1).all()
    assert found["kind=x"].all()
    assert segments_of(("page",), []) == {}


def test_experiments_from_the_command_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Started from a file, shown with its units, ramped, stopped."""
    (folder / "size.toml").write_text(ORDER)

    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(["experiments", *words, "--folder", str(folder)])
        said = capfd.readouterr()
        assert left.value.code in (0, None), said.err
        return said.out + said.err

    assert "running" in call("start", "size", str(folder / "size.toml"), "--author", "ann")
    assert "size" in call("list")
    assert "no unit was exposed" in call("show", "size")
    assert "2 % of users" in call("holdout", "2", "--placement", "home")
    assert "holdout: 2.00%" in call("list")
    call("holdout", "0")
    assert "stopped: enough" in call("stop", "size", "enough", "--ship", "few")
    assert list_experiments(folder, config_of(folder)).experiments[0].state == "stopped"
    with pytest.raises(NotFound):
        show_experiment(folder, config_of(folder), "other")
