"""Trainings: the same log, configuration and seed give the same model; what is ended leaves nothing behind."""

import asyncio
import os
import shutil
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import config_of, open_shop
from midstream.app.operate.rebuild import rebuild
from midstream.app.training import champion_comparison
from midstream.app.training import fit as fitting
from midstream.app.training import run as training
from midstream.app.training.champion_comparison import Champion
from midstream.app.training.fit import Fitting, Trained, acts_of, fit_and_publish, model_named
from midstream.app.training.run import train
from midstream.app.training.worker import TrainingOrder, watch_of
from midstream.cli.app import main
from midstream.cli.faults import fault_text
from midstream.core.errors import ArtifactInvalid, FitStopped, Invalid, NotFound
from midstream.engine import child_process
from midstream.engine.child_process import Ended
from midstream.models import kinds
from midstream.models.artifact.golden import HISTORIES_MAX
from midstream.models.histories import Histories
from midstream.models.items.item_blend import ItemBlend
from midstream.models.model import QUIET, ItemModel, Watch
from midstream.training.registry import LoadedVersion, Registry
from midstream.training.validation import QUESTIONS_MAX, questions
from tests.support.item_models import BESIDE, CoOccurrence

TOML = """
[[models]]
name = "taste"
kind = "beside"
seed = 3
options = { noise = 0.001 }

[[models]]
name = "liked"
kind = "popular"

[[models]]
name = "mix"
kind = "blend"
seed = 4

[models.options]
parts = ["popular", { kind = "beside", options = { noise = 0.001 } }]
"""
GROUPS, IN_GROUP, USERS = 4, 6, 40


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.ITEM_KINDS, "beside", BESIDE)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop whose users each act on items of one group of four."""
    place = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(5)
    with open_shop(place, Config()) as shop:
        for _ in range(6):
            acts = [
                {"type": "view", "user_id": f"u{user}", "item_id": f"g{user % GROUPS}-{rng.integers(IN_GROUP)}"}
                for user in range(USERS)
            ]
            shop.record(acts)
        shop.record([{"type": "item", "item_id": "g0-0", "operation": "delete"}])
    return place


@pytest.fixture
def place(written: Path, tmp_path: Path) -> Path:
    """A copy with two models configured."""
    shutil.copytree(written, tmp_path / "shop")
    (tmp_path / "shop" / "midstream.toml").write_text(TOML)
    return tmp_path / "shop"


def fitted(place: Path, name: str = "taste", watch: Watch = QUIET) -> Trained:
    """Fit here, at a fixed time."""
    return fit_and_publish(Fitting(place, config_of(place), name, made_ms=1), watch)


def registry(place: Path) -> Registry:
    """Return the versions of a folder."""
    return Registry(place / "data" / "models")


def test_a_training_publishes_what_it_fitted_and_says_on_what(place: Path) -> None:
    """The manifest has window, options, seed, configuration and what it is worth beside the most popular items."""
    told: list[tuple[str, float]] = []
    done = fitted(place, watch=Watch(lambda text, share: told.append((text, share))))
    assert (done.name, done.counts["users"], done.counts["items"]) == ("taste", USERS, GROUPS * IN_GROUP - 1)
    assert done.left_out.keys() == {"item_deleted"}
    assert done.counts["events"] + done.left_out["item_deleted"] == 6 * USERS
    loaded = registry(place).load("taste", done.version)
    manifest = loaded.manifest
    assert isinstance(loaded.model, CoOccurrence)
    assert manifest.options == {"power": 1.0, "noise": 0.001, "seed": 3}
    assert manifest.window.counts == done.counts
    assert 0 < manifest.window.end <= 6 * USERS
    assert manifest.config_hash == config_of(place).config_hash
    assert manifest.metrics == done.metrics
    ours, popular = manifest.metrics["NDCG@20"], manifest.metrics["popular.NDCG@20"]
    assert ours is not None
    assert popular is not None
    assert ours > popular
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert told[0][0] == "reading"
    assert told[-1] == ("publishing", 1.0)


def test_a_blend_is_one_version_that_says_what_its_parts_weigh(place: Path) -> None:
    """All arrays of the parts that count are in it; it answers as it did, and the same training gives the same."""
    done = fitted(place, "mix")
    loaded, artifact = registry(place).load("mix", done.version), registry(place).read("mix", done.version)
    assert isinstance(loaded.model, ItemBlend)
    weights = {name: value for name, value in loaded.manifest.metrics.items() if name.startswith("weight.")}
    named = [f"weight.{number}.{kind}" for number, kind in enumerate(loaded.model.kinds)]
    assert weights == dict(zip(named, loaded.model.weights.tolist(), strict=True))
    assert loaded.model.kinds[-1] == "beside"
    assert f"{len(named) - 1}.beside" in artifact.arrays
    ours, popular = loaded.manifest.metrics["NDCG@20"], loaded.manifest.metrics["popular.NDCG@20"]
    assert ours is not None
    assert popular is not None
    assert ours > popular
    again = registry(place).read("mix", fitted(place, "mix").version)
    assert all(np.array_equal(again.arrays[name], each) for name, each in artifact.arrays.items())


def test_nobodys_history_is_in_a_version(place: Path) -> None:
    """Golden questions hold no act, weight or time of anybody, so a version from before an erasure holds nobody."""
    config = config_of(place)
    arrays = registry(place).read("liked", fitted(place, "liked").version).arrays
    acts = acts_of(Fitting(place, config, "liked", 1), model_named(config, "liked"), LogView(place), QUIET)
    assert "golden.time_ms" not in arrays
    asked = Histories(*(arrays[f"golden.{name}"] for name in ("row", "weight", "start")))  # type: ignore[arg-type]
    real = {each.row.tobytes() for each in _each(acts.histories(1_000)[0])}
    made = [each.row.tobytes() for each in _each(asked)]
    assert len(real) == USERS
    assert len(made) == HISTORIES_MAX
    assert real.isdisjoint(made)
    assert {len(each) // 4 for each in made} != {6}
    again = registry(place).read("liked", fitted(place, "liked").version).arrays
    assert (again["golden.row"] == asked.row).all()


def test_a_fit_that_could_have_no_number_is_not_begun(place: Path) -> None:
    """The folder that is in the way is named at once."""
    (place / "data" / "models" / "liked" / "999999999-000000000000").mkdir(parents=True)
    told: list[str] = []
    with pytest.raises(ArtifactInvalid, match="999999999-000000000000"):
        fitted(place, "liked", Watch(lambda text, _: told.append(text)))
    assert told == []


def _each(histories: Histories) -> list[Histories]:
    return [histories.part(number, number + 1) for number in range(len(histories))]


def test_the_same_log_configuration_and_seed_give_the_same_files(place: Path) -> None:
    """Another seed gives others."""
    first, second = fitted(place), fitted(place)
    (place / "midstream.toml").write_text(TOML.replace("seed = 3", "seed = 4"))
    other = fitted(place)
    files = [registry(place).manifest("taste", each.version).files for each in (first, second, other)]
    assert files[0] == files[1]
    assert files[0]["beside.npy"] != files[2]["beside.npy"]
    assert first.version != second.version


def test_a_process_of_its_own_publishes_the_same(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is fitted beside a server is what would be fitted here; progress is told, and its end is logged."""
    caplog.set_level("INFO", "midstream")
    told: list[str] = []
    done = train(place, config_of(place), "liked", lambda stage, _done, _total: told.append(stage))
    here = fitted(place, "liked")
    files = [registry(place).manifest("liked", each.version).files for each in (done, here)]
    assert files[0] == files[1]
    assert "reading" in told
    begun, ended = (each.getMessage() for each in caplog.records if each.name == "midstream")
    assert begun.startswith("training_begun model=liked kind=popular")
    assert ended.startswith("training_ended model=liked kind=popular")
    assert f"version={done.version}" in ended
    assert msgspec.structs.replace(done, version="") == msgspec.structs.replace(here, version="")


def test_a_model_that_is_not_configured_is_named(place: Path) -> None:
    """With the nearest name."""
    with pytest.raises(NotFound, match=r"no model 'tast' is configured\. Nearest: .taste."):
        train(place, config_of(place), "tast")


def test_without_acts_there_is_nothing_to_learn_from(tmp_path: Path) -> None:
    """It is said which acts were left out."""
    (tmp_path / "midstream.toml").write_text(TOML)
    with pytest.raises(Invalid, match=r"no acts that liked learns from\. Left out: none"):
        fitted(tmp_path, "liked")
    assert registry(tmp_path).names() == []


def test_time_that_is_over_stops_a_fit_and_is_named(place: Path) -> None:
    """Nothing is published."""
    with pytest.raises(FitStopped, match="time_max of -1 s is over"):
        fitted(place, watch=watch_of(-1_000, os.getppid()))
    with pytest.raises(FitStopped, match="stopped at"):
        fitted(place, watch=watch_of(1_000_000, os.getppid() + 1))
    assert registry(place).names() == []


@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_a_champion_is_held_only_while_it_is_compared(
    place: Path, monkeypatch: pytest.MonkeyPatch, validation: float
) -> None:
    """It is not loaded where nothing is judged, and gone when the fit begins that is published."""
    first = fitted(place).version
    toml = TOML.replace("seed = 3", f"seed = 3\nvalidation = {validation}")
    (place / "midstream.toml").write_text(toml)
    loaded: list[weakref.ref[object]] = []
    fits: list[list[bool]] = []

    def champion_of(*told: Any) -> Champion:
        found = champion_comparison.champion_of(*told)
        assert found.loaded is not None
        assert isinstance(found.loaded.model, CoOccurrence)
        loaded.append(weakref.ref(found.loaded.model.beside))
        return found

    def fit(*told: Any) -> ItemModel:
        fits.append([each() is not None for each in loaded])
        return BESIDE.fit(*told)

    monkeypatch.setattr(fitting, "champion_of", champion_of)
    monkeypatch.setitem(kinds.ITEM_KINDS, "beside", replace(BESIDE, fit=fit))
    done = fit_and_publish(Fitting(place, config_of(place), "taste", made_ms=1, champion=first), QUIET)
    assert fits == ([[], [False]] if validation else [[]])
    assert done.beside is not None
    assert done.beside.champion == first
    assert ("nothing was kept apart" in done.beside.why_not) == (not validation)


@pytest.mark.parametrize("error", [MemoryError(), OSError("the disk"), NotFound("it went")])
@pytest.mark.parametrize("what", ["loaded", "asked"])
def test_a_champion_that_cannot_be_asked_ends_no_training(
    place: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, what: str
) -> None:
    """What is fitted is published, and says why it was not compared."""
    first = fitted(place).version
    load = Registry.load

    def broken(own: Registry, name: str, version: str) -> LoadedVersion:
        if version == first:
            raise error
        return load(own, name, version)

    def asked(*_: object, **__: object) -> None:
        raise error

    if what == "loaded":
        monkeypatch.setattr(Registry, "load", broken)
    else:
        monkeypatch.setattr(fitting, "compare_items", asked)
    done = fit_and_publish(Fitting(place, config_of(place), "taste", made_ms=1, champion=first), QUIET)
    assert done.version in registry(place).versions("taste")
    assert done.beside is not None
    assert f"cannot be {what}: {str(error) or 'there is no room'}" in done.beside.why_not


def test_memory_beyond_the_limit_is_an_error_and_no_killed_process() -> None:
    """An allocation fails where it is made."""
    text = """
import numpy as np
from midstream.app.training.worker import limit_memory
limit_memory(64 << 20)
kept = np.ones(32 << 20, dtype=np.uint8)
try:
    np.ones(64 << 20, dtype=np.uint8)
except MemoryError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"


@pytest.mark.parametrize(
    "kind, options",
    [("logistic_regression", {"iterations_max": 5}), ("trees", {"objective": "binary", "trees_max": 5})],
)
def test_as_many_rows_as_may_be_are_fitted_within_the_memory(kind: str, options: dict[str, object]) -> None:
    """Together with the rows and the earlier ones of them, which are fitted first; the library was there before."""
    pytest.importorskip("sklearn", reason='needs the extra "train": pip install "midstream[train]"')
    text = f"""
import numpy as np
from midstream.app.config.schema import Model
from midstream.app.training.fit import rows_max_of
from midstream.app.training.worker import limit_memory
from midstream.models.rows.examples import Examples
from midstream.models.kinds import ROW_KINDS
from midstream.models.model import QUIET
kind, bytes_max = ROW_KINDS["{kind}"], 96 << 20
options = kind.decoded({options})
def rows(count):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((count, 40), dtype=np.float32)
    label = (values[:, 0] + rng.standard_normal(count, dtype=np.float32) > 1).astype(np.float32)
    return Examples.of_rows(tuple(map(str, range(40))), values, label)
kind.fit(rows(500), options, QUIET)
count = rows_max_of(Model(name="order", kind="{kind}", memory_bytes_max=bytes_max), 40)
limit_memory(bytes_max)
every = rows(count)
earlier, _ = every.split(0.1)
kind.fit(earlier, options, QUIET)
kind.fit(every, options, QUIET)
print("fitted", count)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", text], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("fitted"), done.stderr[-2_000:]
    assert int(done.stdout.split()[1]) > 30_000


def test_a_training_that_failed_names_its_limits(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a process that died of want of memory cannot. A program that embeds the engine may log what came of it."""
    caplog.set_level("INFO", "midstream")

    async def run(*_: object, **__: object) -> Ended:
        return Ended(b"", "its process ended with status -9; standard error says why")

    monkeypatch.setattr(child_process, "run", run)
    with pytest.raises(FitStopped, match=r"\(time_max 1h, memory_bytes_max 4,294,967,296\): its process ended"):
        train(place, config_of(place), "liked")
    begun, failed = (each.getMessage() for each in caplog.records)
    assert begun.startswith("training_begun model=liked kind=popular")
    assert failed.startswith("training_failed model=liked kind=popular")
    assert "status -9" not in failed


def test_what_is_invalid_keeps_its_parts_and_names_no_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it would be said here: nothing is added by the process between."""
    (tmp_path / "midstream.toml").write_text('[[models]]\nname = "liked"\nkind = "popular"\n')
    with pytest.raises(Invalid) as here:
        fitted(tmp_path, "liked")
    with pytest.raises(Invalid) as there:
        train(tmp_path, config_of(tmp_path), "liked")
    assert there.value.faults == here.value.faults
    with pytest.raises(SystemExit):
        main(["train", "liked", "--folder", str(tmp_path)])
    said = capsys.readouterr().err.strip()
    assert said == "\n\n".join(map(fault_text, here.value.faults))


@pytest.mark.parametrize("name", ["FitStopped", "OSError"])
def test_what_a_training_said_is_all_that_is_said(place: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A limit that was not the cause is not named."""

    async def run(*_: object, **__: object) -> Ended:
        return Ended(b"", f"{name}: time_max of 5 s is over", is_told=True)

    monkeypatch.setattr(child_process, "run", run)
    said = "time_max of 5 s is over" if name == "FitStopped" else "OSError: time_max of 5 s is over"
    with pytest.raises(FitStopped, match=f"^liked was not trained: {said}$"):
        train(place, config_of(place), "liked")


def test_a_training_that_is_ended_leaves_nothing(place: Path) -> None:
    """No version, no part of one, and no process."""
    config = config_of(place)
    order = TrainingOrder(
        str(place), msgspec.json.encode(config, enc_hook=str).decode(), "liked", 1, "", "", hurried=True
    )
    left = place / "data" / "models" / "liked" / ".writing-0001-999999999"
    left.mkdir(parents=True)

    async def run() -> None:
        began = asyncio.Event()
        task = asyncio.create_task(training._run(order, 60.0, lambda *_: began.set()))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    registry(place).clean()
    assert list(left.parent.iterdir()) == []
    mine = place / "data" / "models" / "liked" / f".writing-0001-{os.getpid()}"
    mine.mkdir()
    registry(place).clean()
    assert mine.exists(), "what a process that is at work writes stays"


def test_questions_have_new_items_and_a_history(place: Path) -> None:
    """What is right was not known before; nobody without a history is asked."""
    config = config_of(place)
    acts = acts_of(Fitting(place, config, "taste", 1), model_named(config, "taste"), LogView(place), QUIET)
    first = acts.cut(0.3)
    asked, wanted, whose = questions(acts, first, 100)
    assert 0 < len(asked) == len(wanted) == len(set(whose.tolist())) <= min(USERS, QUESTIONS_MAX)
    assert (wanted.counts > 0).all()
    for number in range(len(asked)):
        own = set(asked.part(number, number + 1).row.tolist())
        assert own.issubset(acts.item[acts.owner == whose[number]].tolist())
        right = wanted.item[wanted.start[number] : wanted.start[number + 1]].tolist()
        assert own
        assert not own.intersection(right)


def test_a_model_of_sessions_is_judged_by_next_items(tmp_path: Path) -> None:
    """Sessions of yesterday do not go on today; what is clicked in those of today is asked for."""
    (tmp_path / "midstream.toml").write_text('[[models]]\nname = "liked"\nkind = "popular"\nhistories = "session"\n')
    with open_shop(tmp_path) as shop:
        for number in range(20):
            told = {"type": "view", "user_id": f"u{number}", "session_id": f"s{number}"}
            shop.record([{**told, "item_id": f"i{item}"} for item in range(4)])
    # The newest tenth of 80 acts are those of the last two sessions.
    assert fitted(tmp_path, "liked").metrics["questions"] == 6.0


COMPACTED = """
[[models]]
name = "liked"
kind = "popular"

[limits]
users_max = 100
items_max = 60
click_items_max = 60
event_ids_max = 1000
sessions_max = 100
index_sessions_max = 100
hot_items_max = 50
new_items_max = 50
"""


def test_items_that_came_after_a_compaction_are_learned(tmp_path: Path) -> None:
    """The table was full of deleted items: what the compaction freed has room in a training as in the state."""

    def acts(name: str) -> list[dict[str, object]]:
        return [{"type": "view", "user_id": f"u{each % 5}", "item_id": f"{name}{each}"} for each in range(50)]

    (tmp_path / "midstream.toml").write_text(COMPACTED)
    config = config_of(tmp_path)
    with open_shop(tmp_path) as shop:
        shop.record(acts("old"))
        shop.record([{"type": "item", "item_id": f"old{each}", "operation": "delete"} for each in range(50)])
    assert rebuild(tmp_path, config, compact=True).dropped_items == 50
    with open_shop(tmp_path) as shop:
        shop.record(acts("new"))
        assert shop.running.engine.fold.vocabulary.item_count == 50
    fitting = Fitting(tmp_path, config, "liked", made_ms=1)
    learned = acts_of(fitting, model_named(config, "liked"), LogView(tmp_path), QUIET)
    assert learned.vocabulary.ids == [f"new{each}" for each in range(50)]
    assert learned.left_out == {"item_deleted": 50}
    done = fit_and_publish(fitting, QUIET)
    assert done.counts["items"] == 50
