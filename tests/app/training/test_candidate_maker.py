"""Candidates made in child processes: trained, measured beside the champion, judged, and the history that is shown."""

import asyncio
import json
import shutil
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config
from midstream.app.opening import config_of, open_shop
from midstream.app.operate.model_registry import promote, registry_of
from midstream.app.operate.trainings import list_trainings, show_history
from midstream.app.training.by_hand import run_training
from midstream.app.training.candidate_maker import ChildMaker
from midstream.cli.app import main
from midstream.core.errors import ConfigInvalid, NotFound
from midstream.engine.trainings.candidates import CandidateOrder, MadeCandidate, NotMeasured
from midstream.training.gates.decide import decide, shadowed
from midstream.training.options import TrainingTable

TOML = """
[[models]]
name = "taste"
kind = "ease"
validation = 0.3

[[trainings]]
model = "taste"
every = "6h"
gates = { golden = "taste.golden.json", worse_max = 0.5, age_max = "30d" }

[[placements]]
name = "home"
sources = [{ kind = "ease", model = "taste" }, { kind = "popular" }]
"""
GOLDEN = {"histories": [{"history": ["g0-1"], "within": 5, "has": ["g0-2"], "lacks": ["g1-1"]}]}
GROUPS, IN_GROUP, USERS = 4, 6, 80


Begun = tuple[Path, MadeCandidate, TrainingTable]
"""Shop with the first candidate, that candidate, and the table of its training."""


def look(shop_folder: Path, rounds: int, seed: int) -> None:
    """Have users look at items of one group each."""
    rng = np.random.default_rng(seed)
    with open_shop(shop_folder) as shop:
        for _ in range(rounds):
            shop.record(
                [
                    {"type": "view", "user_id": f"u{user}", "item_id": f"g{user % GROUPS}-{rng.integers(IN_GROUP)}"}
                    for user in range(USERS)
                ]
            )


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a shop with acts, a model that was never trained, and what it has to know; tests have copies of it."""
    path = tmp_path_factory.mktemp("untrained")
    (path / "midstream.toml").write_text(TOML)
    (path / "taste.golden.json").write_text(json.dumps(GOLDEN))
    look(path, 8, 5)
    return path


@pytest.fixture(scope="module")
def trained(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Begun:
    """Return a copy with the first candidate, which tests copy again."""
    path = Path(shutil.copytree(untrained, tmp_path_factory.mktemp("trained") / "shop"))
    return (path, *made(path))


@pytest.fixture
def folder(untrained: Path, tmp_path: Path) -> Path:
    """Return a shop of a test's own in which nothing was trained."""
    return Path(shutil.copytree(untrained, tmp_path / "shop"))


@pytest.fixture
def begun(trained: Begun, tmp_path: Path) -> Begun:
    """Return a shop of a test's own with the first candidate, that candidate, and the table of its training."""
    path, first, table = trained
    return Path(shutil.copytree(path, tmp_path / "shop")), first, table


def made(folder: Path, champion: str = "") -> tuple[MadeCandidate, TrainingTable]:
    """Have a candidate made by children."""
    config = config_of(folder)
    (table,) = config.trainings
    order = CandidateOrder(table, champion, ("g0-1", "g1-1"), time.time_ns() // 1_000_000)
    return asyncio.run(ChildMaker(folder, lambda: config).make(order)), table


def test_a_candidate_is_measured_and_judged_beside_the_champion(
    begun: Begun,
) -> None:
    """Versions, size, age, time and coverage of both; the paired difference on questions that neither has learned."""
    folder, first, table = begun
    assert first.champion is None
    found = first.measured
    assert (found.faults, found.coverage, found.not_finite, found.apart) == ((), 1.0, 0, 1.0)
    assert found.bytes == registry_of(folder).manifest("taste", found.version).bytes
    assert (first.evidence.golden.asked, first.evidence.golden.wrong) == (1, ())
    judged = first.evidence.judged
    assert judged.figure is not None
    assert judged.published is not None
    assert judged.figure > (judged.baseline or 0)
    assert decide(found, None, first.evidence, table.gates).passed, decide(found, None, first.evidence, table.gates)
    promote(folder, config_of(folder), "taste")
    look(folder, 8, 6)
    second, _ = made(folder, found.version)
    assert second.champion is not None
    assert second.champion.version == found.version
    gap = second.evidence.judged.difference
    assert gap is not None
    assert gap.questions >= 30
    assert second.evidence.judged.champion is not None
    result = decide(second.measured, second.champion, second.evidence, table.gates)
    assert (result.waits, result.gate) == (True, "shadow"), "nobody has asked for anything yet"
    with open_shop(folder) as shop:
        for user in range(9):
            shop.recommend("home", user_id=f"u{user}", n=3)
    order = CandidateOrder(table, found.version, (), 0)
    config = config_of(folder)
    seen = asyncio.run(ChildMaker(folder, lambda: config).shadow(order, second.measured.version))
    assert (seen.requests, seen.failures) == (9, 0)
    versions = second.measured.version, found.version
    assert shadowed(versions, result.results, seen, table.gates, 0).waits, "a handful of requests says too little"
    enough = msgspec.structs.replace(table.gates, requests_min=seen.requests)
    again = shadowed(versions, result.results, seen, enough, 0)
    assert again.passed, again.reason


def test_a_candidate_goes_on_from_the_version_of_its_order(folder: Path) -> None:
    """The order decides between a warm start and a whole fit, not the table alone."""
    path = folder / "midstream.toml"
    toml = TOML.replace('"ease"', '"als"').replace('every = "6h"', 'every = "6h"\nwarm_start = true')
    path.write_text(toml)
    config = config_of(folder)
    (table,) = config.trainings
    maker, parents = ChildMaker(folder, lambda: config), list[str]()
    for start in ("", "0001"):
        order = CandidateOrder(table, "", (), time.time_ns() // 1_000_000, start)
        found = asyncio.run(maker.make(order)).measured.version
        parents.append(registry_of(folder).manifest("taste", found).parent[:4])
    assert parents == ["", "0001"]


def test_what_is_damaged_or_gives_other_answers_is_refused(begun: Begun) -> None:
    """A champion that cannot be read is no reason to pass; a golden answer is exact."""
    folder, first, table = begun
    version = first.measured.version
    path = registry_of(folder).folder / "taste" / version
    array = next(path.glob("*.npy"))
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(content)
    (folder / "taste.golden.json").write_text(json.dumps({"histories": [{"history": ["g0-1"], "has": ["g1-1"]}]}))
    second, _ = made(folder, version)
    assert second.champion is not None
    assert array.name in second.champion.faults[0]
    assert decide(second.measured, second.champion, second.evidence, table.gates).gate == "golden_rows"


def test_a_file_of_golden_answers_that_is_none_ends_the_training(folder: Path) -> None:
    """Its place and what would be right are named."""
    (folder / "taste.golden.json").write_text("{}")
    with pytest.raises(ConfigInvalid, match="From 1 to 1,000"):
        made(folder)
    assert registry_of(folder).versions("taste") == [], "nothing was fitted for it"


def test_a_version_that_no_child_could_measure_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays in the registry, so the decision says which it is."""
    monkeypatch.setattr("midstream.app.training.candidate_maker.MEASURE_S_MAX", 0.001)
    with pytest.raises(NotMeasured) as raised:
        made(folder)
    assert [raised.value.candidate] == [*registry_of(folder).versions("taste")]


def test_a_training_by_hand_is_decided_shown_and_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a server the command does it; its history comes from the log, with figures."""
    config = config_of(folder)
    with pytest.raises(NotFound, match="there are taste"):
        run_training(folder, config, "far")
    assert [each.state for each in list_trainings(folder, config)] == ["waits"]
    with pytest.raises(SystemExit) as ended:
        main(["training", "run", "taste", "--folder", str(folder)])
    assert not ended.value.code
    decisions = show_history(folder, config)
    assert [each.action for each in decisions] == ["kept", "passed"]
    assert [each.name for each in decisions[0].gates][:3] == ["validity", "golden_rows", "leak"]
    (view,) = list_trainings(folder, config)
    assert (view.champion, view.last) == (decisions[0].candidate, decisions[0])
    with pytest.raises(SystemExit):
        main(["training", "history", "taste", "--json", "--folder", str(folder)])
    out = capsys.readouterr().out
    assert '"action":"kept"' in out
    with pytest.raises(NotFound, match="nothing was decided"):
        show_history(folder, config, "far")


def test_an_empty_configuration_trains_nothing(tmp_path: Path) -> None:
    """And says so."""
    with open_shop(tmp_path, Config()):
        pass
    assert list_trainings(tmp_path, Config()) == []
    assert show_history(tmp_path, Config()) == []
