"""Requests run again with a candidate: what it fails at, how much it agrees, and what it would have earned."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midstream.app.opening import config_of, open_shop
from midstream.app.operate.model_registry import promote, registry_of
from midstream.app.training.rerunning import Reran, RerunOrder, run
from midstream.core.errors import ArtifactInvalid
from midstream.core.types import Served
from midstream.engine.child_process import Pace
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.plan import Plan
from midstream.training.registry import Registry
from tests.support.fakes.models import publish_chain, publish_linear, write_folder

EXPLORES = 'selector = { kind = "plackett_luce", temperature = 1.0 }\nslate_size = 2\n'
REQUESTS = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a shop that answered requests with the first version of a model."""
    write_folder(tmp_path)
    path = tmp_path / "midstream.toml"
    path.write_text(path.read_text() + EXPLORES)
    publish_chain(registry_of(tmp_path), 1)
    promote(tmp_path, config_of(tmp_path), "near")
    with open_shop(tmp_path) as shop:
        for number in range(9):
            shop.record([{"type": "view", "user_id": "x", "item_id": f"item-{number}"}])
        for number in range(REQUESTS):
            shop.record([{"type": "view", "user_id": f"u{number}", "item_id": f"item-{number % 9}"}])
            shop.recommend("home", user_id=f"u{number}", n=2)
    return tmp_path


def reran(folder: Path, candidate: str, *, has_value: bool = False, slates: int = 500, placement: str = "") -> Reran:
    """Run the newest requests again with a candidate."""
    registry = registry_of(folder)
    config = msgspec.json.encode(config_of(folder), enc_hook=str).decode()
    champion = registry.versions("near")[0]
    order = RerunOrder(str(folder), config, "near", candidate, champion, slates, True, has_value, placement)  # noqa: FBT003
    return run(order, Pace())


def test_an_equal_version_agrees_with_all_and_fails_at_nothing(folder: Path) -> None:
    """All requests, at most as many as were asked for."""
    seen = reran(folder, publish_chain(registry_of(folder), 1)).shadow
    assert seen is not None
    assert (seen.requests, seen.failures, seen.not_finite, seen.agreement) == (REQUESTS, 0, 0, 1.0)
    assert seen.cpu_times is not None
    few = reran(folder, publish_chain(registry_of(folder), 1), slates=7).shadow
    assert few is not None
    assert few.requests == 7


def test_another_version_agrees_less(folder: Path) -> None:
    """It says another item of each."""
    seen = reran(folder, publish_chain(registry_of(folder), 4)).shadow
    assert seen is not None
    assert seen.agreement is not None
    assert (seen.failures, seen.agreement < 0.7) == (0, True)


def test_a_version_that_fails_where_the_champion_answers_is_counted(folder: Path) -> None:
    """Each request; a damaged one cannot be asked at all."""
    registry = registry_of(folder)
    seen = reran(folder, publish_linear(registry, name="near")).shadow
    assert seen is not None
    assert (seen.requests, seen.failures) == (REQUESTS, REQUESTS)
    with pytest.raises(ArtifactInvalid):
        reran(folder, damaged(registry))


def damaged(registry: Registry) -> str:
    """Return a version with a flipped bit."""
    version = publish_chain(registry, 3)
    path = registry.folder / "near" / version / "weight.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return version


def test_a_value_is_estimated_or_the_reason_is_told(folder: Path) -> None:
    """Sixty slates say little: that is said, and not a figure."""
    found = reran(folder, publish_chain(registry_of(folder), 4), has_value=True).value
    assert found is not None
    assert found.low is None
    assert found.why_not


def test_a_model_that_no_placement_reads_has_no_shadow(tmp_path: Path) -> None:
    """And the reason."""
    write_folder(tmp_path)
    with open_shop(tmp_path):
        pass
    config = msgspec.json.encode(config_of(tmp_path), enc_hook=str).decode()
    found = run(RerunOrder(str(tmp_path), config, "far", "0002", "0001", 100, True, True), Pace())  # noqa: FBT003
    assert found.shadow is not None
    assert found.value is not None
    assert found.shadow.why_not == found.value.why_not == "no placement reads the model"


def test_requests_are_those_of_the_placement_of_the_canary(folder: Path) -> None:
    """Else of the first that reads the champion: one that pins a version, or reads no model, has none to say."""
    same = publish_chain(registry_of(folder), 1)
    path = folder / "midstream.toml"
    text = path.read_text()
    seen = reran(folder, same, placement="home").shadow
    assert seen is not None
    assert seen.requests == REQUESTS
    seen = reran(folder, same, placement="nowhere").shadow
    assert seen is not None
    assert (seen.requests, seen.why_not) == (0, "nowhere does not read the version in service")
    path.write_text(f"{text}\nmodels = {{ near = '{registry_of(folder).versions('near')[0]}' }}\n")
    seen = reran(folder, same).shadow
    assert seen is not None
    assert (seen.requests, seen.why_not) == (0, "no placement reads the model")


def test_both_answer_first_in_turns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one finds what the first has read: that is no merit of a version."""
    asked: list[str] = []

    async def noted(plan: Plan, *rest: Any) -> Served:
        asked.append(plan.models.versions["near"][:4])
        return await rerun(plan, *rest)

    monkeypatch.setattr("midstream.app.training.rerunning.rerun", noted)
    assert reran(folder, publish_chain(registry_of(folder), 4), slates=4).shadow is not None
    assert asked == ["0001", "0002", "0002", "0001"] * 2


def test_a_figure_that_is_no_number_is_named_and_not_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON would make it none, which passes."""
    monkeypatch.setattr("midstream.app.training.rerunning.np.median", lambda _: math.nan)
    seen = reran(folder, publish_chain(registry_of(folder), 1), slates=5).shadow
    assert seen is not None
    read = msgspec.json.decode(msgspec.json.encode(seen), type=type(seen))
    assert (read.requests, read.faults, read.cpu_times) == (5, ("shadow.cpu_times",), None)
