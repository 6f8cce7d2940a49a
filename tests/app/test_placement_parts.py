"""Placements set while a folder is open: in force at once, after a restart, a crash, a rebuild and a rewrite."""

import asyncio
import shutil
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import midstream
from midstream.app.config.effective import content_of, with_changes, within_placement
from midstream.app.config.reader import parse_placement
from midstream.app.config_history import config_named, settings_of
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, config_of, service_of
from midstream.app.operate.erase import erase_users
from midstream.app.operate.rebuild import rebuild
from midstream.core.errors import (
    AppendFailed,
    ConfigInvalid,
    Fault,
    MidstreamError,
    NotFound,
    PlacementChanged,
    RebuildRunning,
    RequestInvalid,
)
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, Failure, LogPosition
from midstream.engine import child_process
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.instance import Instance
from midstream.engine.placements.control_changes import Said
from midstream.engine.recommender import Recommender
from midstream.engine.types import Ask, Recorded
from midstream.events.schema import event_at
from midstream.ranking.explain.rerun import rerun
from midstream.state.control.placements import placement_of
from midstream.state.fold import Fold
from tests.support.fakes.rebuilds import rebuilt, run_folder, run_in_process, write_config

ANN = Said("ann", "because")
PRICE = '[items.attributes]\nprice = "number"\n'
HOME = '[[placements]]\nname = "home"\nslate_size = {size}\n'
CART = '[[placements]]\nname = "cart"\nslate_size = 4\n'
BAD: tuple[tuple[Any, str], ...] = (
    ({"weights": {"x": 1.0}}, "$.weights.x"),
    ({"slate_sise": 1}, "$.slate_sise"),
    ({"filter": "item.prise > 3"}, "$.filter"),
    ({"sources": [{"kind": "sesion_knn"}]}, "$.sources[0].kind"),
    ({"sources": [{"kind": "popular"}, {"kind": "trending", "half_life": "3h"}]}, "$.sources[1].half_life"),
    ({"slate_size": 7, "slate_size_max": 6}, "$.slate_size"),
    ({"name": "other"}, "$.name"),
    ({"weights": {"a.b": 1.0}}, '$.weights["a.b"]'),
    ({"filters": [{"kind": "custom", "path": "nowhere:Filter"}]}, "$.filters[0].path"),
    ({"editorial": ["x" * 100] * 900}, "$"),
    ([], "$"),
)


def write(folder: Path, size: int = 5, more: str = CART) -> None:
    """Write a file with a placement ``home`` of some size, and others."""
    write_config(folder, PRICE + HOME.format(size=size) + more)


def looked(shop: Recommender) -> None:
    """Have three users look at nine items."""
    shop.record(
        [{"type": "view", "user_id": f"u{n % 3}", "item_id": f"i{n % 9}", "event_id": f"{n}"} for n in range(60)]
    )


def sizes(shop: Recommender) -> dict[str, int]:
    """Return the size of each placement that is in force."""
    return {each.placement: each.slate_size for each in shop.placements() if each.origin != "built_in"}


class World:
    """A folder, what is open of it, and the same in plain Python."""

    def __init__(self, folder: Path) -> None:
        """Begin with a file that has ``home`` and ``cart``."""
        self.folder = folder / "0"
        write(self.folder)
        self.file = {"home": 5, "cart": 4}
        self.changes: dict[str, int] = {}
        self.shop = midstream.open(self.folder)
        self.shop.__enter__()
        looked(self.shop)

    def act(self, what: str, name: str, size: int) -> None:
        """Do one thing, and check all that was promised."""
        if what == "set":
            self.shop.set_placement(name, {"slate_size": size}, author="ann")
            self.changes[name] = size
        elif what == "bad":
            before = self.shop.placement(name) if name in sizes(self.shop) else None
            with pytest.raises(ConfigInvalid):
                self.shop.set_placement(name, BAD[size % len(BAD)][0], author="ann")
            assert before is None or self.shop.placement(name) == before
        elif what == "remove" and name in self.changes:
            self.shop.remove_placement(name, author="bob")
            del self.changes[name]
        elif what == "remove":
            with pytest.raises(NotFound):
                self.shop.remove_placement(name, author="bob")
        elif what == "file":
            write(self.folder, size)
            self.file["home"] = size
            self.shop._wait(self.shop.running.rebuilder.order)
        else:
            self.begin_again(crashes=what == "crash")
        self.check()

    def begin_again(self, *, crashes: bool) -> None:
        """Close and open; after a crash all that is left is what the disk had."""
        if crashes:
            there = self.folder.with_name(str(int(self.folder.name) + 1))
            shutil.copytree(self.folder, there, ignore=shutil.ignore_patterns("*.lock", "lock", "sockets"))
            self.folder = there
        self.shop.close()
        self.shop = midstream.open(self.folder)
        self.shop.__enter__()

    def check(self) -> None:
        """Hold what is in force to the plain model."""
        assert sizes(self.shop) == self.file | self.changes
        service = self.shop.running.service
        changes = {
            name: parse_placement({"name": name, "slate_size": size}, "$") for name, size in self.changes.items()
        }
        expected = with_changes(config_of(self.folder), changes)
        assert service.config_hash == expected.config_hash
        assert config_named(DataFolder(self.folder / DATA_NAME), service.config_hash) == expected
        for name, size in (self.file | self.changes).items():
            answer = self.shop.recommend(name)
            assert (len(answer.items), answer.config_hash) == (min(size, 9), expected.config_hash)


@settings(max_examples=8)  # each of them opens several engines
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "set", "set", "bad", "remove", "restart", "crash", "file"]),
            st.sampled_from(["home", "cart", "more"]),
            st.integers(1, 9),
        ),
        min_size=4,
        max_size=8,
    )
)
def test_any_sequence_leads_to_what_was_said_last(acts: list[tuple[str, str, int]]) -> None:
    """Sets, refusals, removals, restarts, crashes and changes of the file: in force is what the plain model says."""
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        try:
            for act in acts:
                world.act(*act)
        finally:
            world.shop.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a placement ``home`` of five items."""
    write(tmp_path, more="")
    return tmp_path


def test_a_number_out_of_bounds_hides_nothing_of_a_placement(tmp_path: Path) -> None:
    """What goes together is told beside it, as of one in the file, but for what only the number in its place breaks."""
    write(tmp_path)
    told = {
        "caps": [{"attribute": "brnad", "max": 0}],
        "diversity": {"attribute": "lok", "weight": 0},
        "selector": {"kind": "plackett_luce", "pool": 0, "keep": 5},
        "slate_size": 50,
        "slate_size_max": 0,
    }
    with midstream.open(tmp_path) as shop, pytest.raises(ConfigInvalid) as refused:
        shop.set_placement("home", told, author="ann")
    assert sorted(each.where for each in refused.value.faults) == [
        "$.caps[0].attribute",
        "$.caps[0].max",
        "$.diversity.attribute",
        "$.diversity.weight",
        "$.selector.pool",
        "$.slate_size_max",
    ]


def test_a_half_life_that_is_not_kept_hides_nothing_of_a_placement(tmp_path: Path) -> None:
    """Nor does one that is none; what goes together is told beside it, and nothing that only the half-life breaks."""
    write(tmp_path)
    rest = {"weights": {"7": 1.0, "hot": 1.0}, "caps": [{"attribute": "brnad", "max": 1}]}
    for half_life in ("3h", "soon"):
        hot = {"kind": "trending", "name": "hot", "half_life": half_life, "by_segment": True}
        told = {"sources": [{"kind": "popular"}, hot], **rest}
        with midstream.open(tmp_path) as shop, pytest.raises(ConfigInvalid) as refused:
            shop.set_placement("home", told, author="ann")
        assert sorted(each.where for each in refused.value.faults) == [
            "$.caps[0].attribute",
            "$.sources[1].by_segment",
            "$.sources[1].half_life",
            "$.weights.7",
        ]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_bad_one_is_refused_and_changes_nothing(folder: Path, number: int) -> None:
    """With a pointer into what was sent, what came, what is right and a page; log, plans and files are as before."""
    told, where = BAD[number]
    with midstream.open(folder) as shop:
        looked(shop)
        engine, files = shop.running.engine, folder / DATA_NAME / "config"
        before = (engine.log.end, engine.plans, shop.running.service, sorted(files.iterdir()))
        with pytest.raises(ConfigInvalid) as refused:
            shop.set_placement("home", told, author="ann")
        fault = refused.value.faults[0]
        assert fault.where == where
        assert all((fault.came, fault.right, fault.page))
        assert (engine.log.end, engine.plans, shop.running.service, sorted(files.iterdir())) == before


COMPONENTS = """
import asyncio, sys, time, msgspec, numpy as np
from midstream.core.errors import ScoresUnavailable, SourceUnavailable
from midstream.core.traits import BOUNDED
from midstream.core.types import Proposal, Selection

CALLS = []

class Source(msgspec.Struct, frozen=True):
    how: str
    name: str = "shelf"
    def retrieve(self, moment):
        CALLS.append(self.how)
        if self.how == "second time" and len(CALLS) == 2:
            raise RuntimeError("not again")
        if self.how == "slow":
            time.sleep(0.03)
        if self.how == "raises":
            raise KeyError("shelf")
        if self.how == "leaves":
            sys.exit(3)
        if self.how == "cancelled":
            raise asyncio.CancelledError
        if self.how == "closed":
            raise GeneratorExit
        if self.how == "unavailable":
            raise SourceUnavailable("nothing is on it yet")
        index = np.zeros(1, np.int64 if self.how == "lies" else np.int32)
        return None if self.how == "nothing" else Proposal(index, np.ones(1, np.float32))

class Filter(msgspec.Struct, frozen=True):
    name: str = "permitted"
    def keep(self, moment, candidates):
        return np.ones(len(candidates), np.float32)

class BoundedSource(Source, frozen=True):
    traits = BOUNDED

class Scorer(msgspec.Struct, frozen=True):
    how: str
    name: str = "ranker"
    async def score(self, query, features, models):
        if self.how == "waits":
            await asyncio.sleep(3600)
        if self.how == "unavailable":
            raise ScoresUnavailable("no model")
        return np.ones(len(features.values) + (self.how == "lies"), np.float32)

class Selector(msgspec.Struct, frozen=True):
    def select(self, query, features, score):
        return Selection(np.zeros(2, np.intp), np.ones(2, np.float32))
"""


def custom(kind: str, **options: str) -> dict[str, Any]:
    """Return a component of one's own, as a placement names it."""
    return {"kind": "custom", "name": kind.lower(), "options": options}


def write_components(folder: Path) -> None:
    """Write the code, and a file that names it."""
    (folder / "components.py").write_text(COMPONENTS)
    kinds = ("Source", "BoundedSource", "Filter", "Scorer", "Selector")
    write(folder, more="[components]\n" + "".join(f'{kind.lower()} = "components:{kind}"\n' for kind in kinds))


LYING: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"sources": [custom("Source", how="raises")]}, "$.sources[0]", "shelf failed when it was tried: KeyError"),
    ({"sources": [custom("BoundedSource", how="raises")]}, "$.sources[0]", "shelf failed when it was tried: KeyError"),
    (
        {"sources": [custom("BoundedSource", how=""), custom("Source", how="raises", name="other")]},
        "$.sources[1]",
        "other failed when it was tried",
    ),
    ({"sources": [custom("Source", how="leaves")]}, "$.sources[0]", "SystemExit: 3"),
    (
        {"sources": [custom("Source", how="cancelled")]},
        "$.sources[0]",
        "shelf failed when it was tried: CancelledError.",
    ),
    ({"sources": [custom("Source", how="closed")]}, "$.sources[0]", "GeneratorExit"),
    ({"sources": [custom("Source", how="lies")]}, "$.sources[0]", "int64"),
    ({"sources": [custom("Source", how="nothing")]}, "$.sources[0]", "shelf failed"),
    ({"sources": [{"kind": "popular"}, custom("Source", how="raises")]}, "$.sources[1]", "shelf failed"),
    ({"sources": [custom("Source", how="second time")]}, "$.sources[0]", "RuntimeError: not again"),
    ({"filters": [custom("Filter")]}, "$.filters[0]", "permitted failed when it was tried: ShapeMismatch: float32"),
    ({"scorers": [custom("Scorer", how="lies")]}, "$.scorers[0]", "ranker failed"),
    ({"scorers": [custom("Scorer", how="waits")]}, "$.scorers[0]", "TimeoutError: no answer within"),
    (
        {"scorers": [custom("Scorer", how="", name="first"), custom("Scorer", how="lies", name="second")]},
        "$.scorers[1]",
        "second failed when it was tried",
    ),
    ({"selector": custom("Selector")}, "$.selector", "selector failed when it was tried: ShapeMismatch"),
)


@pytest.mark.parametrize("number", range(len(LYING)))
def test_a_component_that_fails_when_it_is_tried_is_refused(
    folder: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that raises, leaves, never answers or lies about its columns, also behind another: nothing was changed."""
    told, where, came = LYING[number]
    write_components(folder)
    monkeypatch.setattr("midstream.engine.answer.warmup.WAIT_S_MAX", 1.0)
    with midstream.open(folder) as shop:
        looked(shop)
        engine = shop.running.engine
        before = (engine.log.end, engine.plans)
        with pytest.raises(ConfigInvalid) as refused:
            shop.set_placement("home", told, author="ann")
        (fault,) = refused.value.faults
        assert (fault.where, fault.page) == (where, "/docs/contributing.md")
        assert came in fault.came
        assert fault.came.endswith(".")
        assert "midstream check" in fault.right
        assert (engine.log.end, engine.plans) == before


def test_a_component_that_would_hold_everybody_up_is_refused(folder: Path) -> None:
    """It took more than half of the deadline whenever it was warm: nothing was changed. A longer deadline takes it."""
    write_components(folder)
    told = {"sources": [{"kind": "popular"}, custom("Source", how="slow")]}
    with midstream.open(folder) as shop:
        end = shop.running.engine.log.end
        with pytest.raises(ConfigInvalid) as refused:
            shop.set_placement("home", told, author="ann")
        (fault,) = refused.value.faults
        assert (fault.where, fault.page) == ("$.sources[1]", "/docs/architecture.md")
        assert fault.came.startswith("shelf held everybody up when it was tried: it took ")
        assert fault.came.endswith(", at most 25 ms are right.")
        assert shop.running.engine.log.end == end
        shop.set_placement("home", told | {"deadline": "10s"}, author="ann")
        assert shop.placement("home").versions[-1].version == 1


@pytest.mark.parametrize("how", ["cancelled", "closed", "leaves"])
def test_a_start_with_a_source_that_ends_tasks_goes_well(folder: Path, how: str) -> None:
    """What the file says is in force: every answer names the source and has what the others propose."""
    (folder / "components.py").write_text(COMPONENTS)
    shelf = f'[[placements.sources]]\nkind = "custom"\npath = "components:Source"\noptions = {{how = "{how}"}}\n'
    write(folder, more=shelf)
    with midstream.open(folder) as shop:
        looked(shop)
        answer = shop.recommend("home")
        assert len(answer.items) == 5
        assert [each.component for each in answer.failures] == ["shelf"]


def test_a_component_that_has_nothing_to_say_yet_is_set(folder: Path) -> None:
    """It says so as its Protocol has it, which is no failure of its own."""
    write_components(folder)
    told = {
        "sources": [custom("Source", how="unavailable"), {"kind": "trending"}],
        "scorers": [custom("Scorer", how="unavailable")],
    }
    with midstream.open(folder) as shop:
        shop.set_placement("home", told, author="ann")
        assert shop.placement("home").versions[-1].version == 1


@pytest.mark.parametrize("name", ["", " home", "home ", "ho\nme", "\u200b", "*", "x" * 65, "ü" * 33])
def test_a_name_that_nobody_could_ask_for_again_is_refused(folder: Path, name: str) -> None:
    """Nothing at all, a space at an end, what is not seen, the sign for any name, and what no request may say."""
    with midstream.open(folder) as shop:
        end = shop.running.engine.log.end
        with pytest.raises(ConfigInvalid) as refused:
            shop.set_placement(name, {}, author="ann")
        assert {each.where for each in refused.value.faults} == {"$.name"}
        assert shop.running.engine.log.end == end
        for fine in ("a/b", "für dich", "x" * 64):
            shop.set_placement(fine, {}, author="ann")
            assert shop.placement(fine).origin == "api"


@pytest.mark.parametrize(
    "author,note,where",
    [
        ("a\nb", "", "/author"),
        ("\x1b[31mann", "", "/author"),
        ("\ud800", "", "/author"),
        ("ann", "\x1b]0;x\x07", "/note"),
    ],
)
def test_who_and_why_can_be_printed_as_they_stand(folder: Path, author: str, note: str, where: str) -> None:
    """Control characters would be the terminal's of whoever lists placements; a note may have lines."""
    with midstream.open(folder) as shop:
        with pytest.raises(ConfigInvalid) as refused:
            shop.set_placement("home", {}, author=author, note=note)
        assert [each.where for each in refused.value.faults] == [where]
        shop.set_placement("home", {}, author="ann", note="fewer,\nfor the small page")


def test_what_is_wrong_elsewhere_is_the_file_s(folder: Path) -> None:
    """A pointer leads into what was sent, or names the file."""
    error = ConfigInvalid((Fault("$.placements[0].filter", "", "", ""), Fault("$.features[0]", "", "", "")))
    config = config_of(folder)
    moved = within_placement(error, config, "home")
    assert [each.where for each in moved.faults] == ["$.filter", "midstream.toml: $.features[0]"]


def test_a_change_is_audited_in_the_log(folder: Path) -> None:
    """Each is one control event with content, hash, author and note; the same content again is not said again."""
    with midstream.open(folder) as shop:
        shop.set_placement("home", {"slate_size": 3}, author="ann", note="fewer")
        shop.set_placement("home", {"slate_size": 3, "deadline": "50ms"}, author="bob", note="the same")
        shop.remove_placement("home", author="bob", note="more again")
        versions = shop.placement("home").versions
    assert [(each.version, each.author, each.note) for each in versions] == [
        (1, "ann", "fewer"),
        (2, "bob", "more again"),
    ]
    events = [event_at(batch, n) for batch in LogView(folder).batches() for n in range(len(batch))]
    said = [placement_of(event.body) for event in events if event.kind == Kind.CONTROL]
    wanted = content_of(parse_placement({"name": "home", "slate_size": 3}, "$"))
    assert [None if each is None else each.content for each in said] == [wanted, ""]


def test_who_looked_at_an_older_version_is_refused(folder: Path) -> None:
    """Of two who read the same version the second one is told who was first; 0 stands for none."""
    with midstream.open(folder) as shop:
        shop.set_placement("home", {"slate_size": 3}, author="ann", if_version=0)
        for work in (
            partial(shop.set_placement, "home", {"slate_size": 4}),
            partial(shop.remove_placement, "home"),
        ):
            with pytest.raises(PlacementChanged, match="0 came; version 1 of home by ann is the newest"):
                work(author="bob", if_version=0)
        assert sizes(shop) == {"home": 3}
        shop.set_placement("home", {"slate_size": 4}, author="bob", if_version=1)
        assert sizes(shop) == {"home": 4}
        with pytest.raises(ConfigInvalid, match="/author"):
            shop.set_placement("home", {"slate_size": 4}, author=" ")


def test_a_preview_leaves_no_trace(folder: Path) -> None:
    """It answers as a request would once it were set, beside today's answer; nothing is logged, kept or counted."""
    with midstream.open(folder) as shop:
        looked(shop)
        engine, files = shop.running.engine, folder / DATA_NAME / "config"
        before = (engine.log.end, engine.plans, sorted(files.iterdir()), engine.metrics.text())
        found = shop.preview_placement("home", {"slate_size": 3, "repeats": "none"}, user_id="u1")
        fresh = shop.preview_placement("more", {"slate_size": 2})
        assert (engine.log.end, engine.plans, sorted(files.iterdir()), engine.metrics.text()) == before
        today = shop.recommend("home", user_id="u1")
        assert found.today is not None
        assert [each.id for each in found.today.items] == [each.id for each in today.items]
        assert (len(fresh.answer.items), fresh.today) == (2, None)
        shop.set_placement("home", {"slate_size": 3, "repeats": "none"}, author="ann")
        answer = shop.recommend("home", user_id="u1")
        assert [each.id for each in answer.items] == [each.id for each in found.answer.items]
        assert answer.config_hash == found.answer.config_hash


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children work on a thread."""
    monkeypatch.setattr(child_process, "run", run_in_process)


async def looked_at(running: Instance) -> None:
    """As ``looked``, without a shop of its own."""
    from tests.support.rig import Rig, view

    await running.engine.record(Rig().batch(*(view(f"i{n % 9}", f"u{n % 3}", event_id=f"{n}") for n in range(60))))


@pytest.mark.usefixtures("in_process")
def test_it_outlives_rebuilds_and_rewrites(folder: Path) -> None:
    """Another state, a rebuild from the first event, an erasure that rewrites the log: in force, with its history."""

    async def work(running: Instance) -> None:
        await looked_at(running)
        await running.placing.put("home", {"slate_size": 3}, ANN)
        write(folder, more="[sessions]\ngap = '7m'\n")
        await running.rebuilder.order()
        with pytest.raises(RebuildRunning):
            await running.placing.put("home", {"slate_size": 2}, ANN)
        assert (await rebuilt(running)).state == "done"
        assert len((await running.engine.recommend(Ask("home"))).items) == 3
        await running.placing.put("home", {"slate_size": 2}, Said("bob"))

    def known(running: Instance) -> tuple[int, list[tuple[int, str, str]]]:
        rows = running.engine.fold.placements.versions("home")
        return running.engine.plan("home").slate_size, [(each.version, each.author, each.note) for each in rows]

    async def nothing(_running: Instance) -> None:
        """Open and close."""

    history = (2, [(1, "ann", "because"), (2, "bob", "")])
    assert known(run_folder(folder, work)) == history
    erase_users(folder, config_of(folder), ["u1"], now=True)
    assert known(run_folder(folder, nothing)) == history
    rebuild(folder, config_of(folder))
    assert known(run_folder(folder, nothing)) == history
    assert run_folder(folder, nothing).started.folded == 0


def test_a_record_served_under_an_older_placement_runs_again(folder: Path) -> None:
    """With the configuration that its hash names, on the state of its log position: identical."""
    with midstream.open(folder) as shop:
        looked(shop)
        ids = [shop.recommend("home", user_id="u1").request_id]
        for size, repeats in ((3, "none"), (4, "any")):
            shop.set_placement("home", {"slate_size": size, "repeats": repeats}, author="ann")
            ids.append(shop.recommend("home", user_id="u1").request_id)
            shop.record({"type": "view", "user_id": "u1", "item_id": f"i{size}"})
        shop.remove_placement("home", author="ann")
    with midstream.open(folder) as shop:
        records = [shop._call(partial(shop.running.engine.served, each)) for each in ids]
    assert [None if each is None else len(each.items) for each in records] == [5, 3, 4]
    assert len({each.config_hash for each in records if each is not None}) == 3
    log = LogView(folder)
    for record in records:
        assert record is not None
        config = config_named(DataFolder(folder / DATA_NAME), record.config_hash)
        service = service_of(folder, config, settings_of(DataFolder(folder / DATA_NAME), config))
        assert service.settings.version() == record.fold_version
        fold = Fold(service.settings)
        catch_up(fold, log.read, LogPosition(record.log_position))
        plan = service.plans["home"]
        again = asyncio.run(rerun(plan, partial(fold.moment, models=plan.models), record))
        chosen = again.selection.chosen
        assert fold.vocabulary.item_ids(again.candidates.item_index[chosen]) == [each.id for each in record.items]
        assert again.score[chosen].tolist() == [each.score for each in record.items]


def test_what_does_not_hold_beside_a_file_any_more_is_set_aside(folder: Path) -> None:
    """While serving such a file is refused; a start goes on with the file's placement, says so, and takes it back."""
    with midstream.open(folder) as shop:
        shop.set_placement("home", {"slate_size": 3, "filter": "item.price > 0 or item.available"}, author="ann")
        write_config(folder, HOME.format(size=6))
        before = shop.running.service
        with pytest.raises(ConfigInvalid) as refused:
            shop._wait(shop.running.rebuilder.order)
        assert refused.value.faults[0].where == "$.placements.home.filter"
        assert "midstream placements remove home" in refused.value.faults[0].right
        assert shop.running.service is before
    with midstream.open(folder) as shop:
        (home,) = [each for each in shop.placements() if each.placement == "home"]
        assert (home.origin, home.slate_size, home.version) == ("file", 6, 1)
        (aside,) = shop.placement("home").aside
        assert (aside.placement, aside.version, aside.where) == ("home", 1, "$.filter")
        assert "the placement home that was set is not in force" in shop.running.engine.health().reason
    write(folder, more="")
    with midstream.open(folder) as shop:
        assert (sizes(shop), shop.running.engine.health().reason) == ({"home": 3}, "")
    write_config(folder, HOME.format(size=6))
    with midstream.open(folder) as shop:
        shop.set_placement("home", {"slate_size": 2}, author="ann")
        assert (sizes(shop), shop.placement("home").aside) == ({"home": 2}, [])
        assert shop.running.engine.health().reason == ""


def test_the_state_is_decided_by_the_file_alone(folder: Path) -> None:
    """A half-life that a covered placement of the file leads to stays, so a start still finds the snapshot."""
    sources = '[[placements.sources]]\nkind = "trending"\nhalf_life = "3h"\n'
    write_config(folder, HOME.format(size=5) + sources + "[trending]\nhalf_life = ['4h']\n")
    with midstream.open(folder) as shop:
        looked(shop)
        version = shop.running.service.settings.version()
        shop.set_placement("home", {"sources": [{"kind": "popular"}]}, author="ann")
        kept = {"sources": [{"kind": "trending", "half_life": "4h"}, {"kind": "popular", "half_life": "3h"}]}
        shop.set_placement("more", kept, author="ann")
        assert shop.running.service.settings.version() == version
        assert shop.running.service.config.fold_settings() == shop.running.service.file.fold_settings()
    rebuild(folder, config_of(folder))
    with midstream.open(folder) as shop:
        assert (shop.running.started.folded, sizes(shop)) == (0, {"home": 20, "more": 20})
        assert shop.running.service.settings.version() == version


def test_what_cannot_be_written_down_is_not_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails before the event: nothing is said and nothing is changed."""

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with midstream.open(folder) as shop:
        end = shop.running.engine.log.end
        with monkeypatch.context() as patch:
            patch.setattr("midstream.app.placement_parts.keep_config", fails)
            with pytest.raises(MidstreamError, match="No space left"):
                shop.set_placement("home", {"slate_size": 3}, author="ann")
        assert (shop.running.engine.log.end, sizes(shop)) == (end, {"home": 5})
        shop.set_placement("home", {"slate_size": 3}, author="ann")
        assert sizes(shop) == {"home": 3}


@pytest.mark.parametrize("content", [{"slate_size": 3}, None])
def test_who_is_cut_off_leaves_nothing_half_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any] | None
) -> None:
    """Once the event is on its way the change is made to its end, whoever waits for it or does not."""
    with midstream.open(folder) as shop:
        placing, engine = shop.running.placing, shop.running.engine
        if content is None:
            shop.set_placement("home", {"slate_size": 3}, author="ann")
        record = engine.record
        is_recorded, goes_on = asyncio.Event(), asyncio.Event()

        async def slow(batch: EventBatch) -> Recorded:
            found = await record(batch)
            is_recorded.set()
            await goes_on.wait()
            return found

        async def work() -> None:
            work = placing.remove("home", ANN) if content is None else placing.put("home", content, ANN)
            change = asyncio.create_task(work)
            await is_recorded.wait()
            change.cancel()
            await asyncio.sleep(0)
            with pytest.raises(RebuildRunning), shop.running.rebuilder.alone():
                raise AssertionError
            goes_on.set()
            with pytest.raises(asyncio.CancelledError):
                await change

        with monkeypatch.context() as patch:
            patch.setattr(engine, "record", slow)
            shop._wait(work)
        assert sizes(shop) == {"home": 5 if content is None else 3}
        (home,) = [each for each in shop.placements() if each.placement == "home"]
        assert home.version == (2 if content is None else 1)


def test_what_the_log_says_and_is_not_in_service_is_put_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the change was folded and never put in service, saying it again does that and records nothing more."""
    with midstream.open(folder) as shop:
        engine = shop.running.engine
        record = engine.record

        async def torn(batch: EventBatch) -> Recorded:
            await record(batch)
            raise AppendFailed("closed")

        with monkeypatch.context() as patch:
            patch.setattr(engine, "record", torn)
            with pytest.raises(AppendFailed):
                shop.set_placement("home", {"slate_size": 3}, author="ann")
        end = engine.log.end
        assert sizes(shop) == {"home": 5}
        assert shop.set_placement("home", {"slate_size": 3}, author="ann").versions[-1].version == 1
        assert (sizes(shop), engine.log.end) == ({"home": 3}, end)
        with monkeypatch.context() as patch:
            patch.setattr(engine, "record", torn)
            with pytest.raises(AppendFailed):
                shop.remove_placement("home", author="ann")
        end = engine.log.end
        assert sizes(shop) == {"home": 3}
        assert shop.remove_placement("home", author="ann").versions[-1].version == 2
        assert (sizes(shop), engine.log.end) == ({"home": 5}, end)
        with pytest.raises(NotFound):
            shop.remove_placement("home", author="ann")


def test_a_preview_goes_without_who_is_benched_and_explains_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both slates are without it, as today's answers are; reasons and why are refused and not forgotten."""
    benched = (Failure("session_knn", "benched"),)
    with midstream.open(folder) as shop:
        looked(shop)
        monkeypatch.setattr(shop.running.engine.guards, "benched", lambda _: benched)
        found = shop.preview_placement("home", {"slate_size": 3}, session_id="s1")
        assert found.today is not None
        assert found.answer.failures == found.today.failures == benched
        for asked, where in (
            ({"explain": True}, "/question/explain"),
            ({"reasons": "en"}, "/question/reasons"),
            ({"cursor": True}, "/question/cursor"),
        ):
            with pytest.raises(RequestInvalid) as refused:
                shop.preview_placement("home", {}, **asked)
            assert [each.where for each in refused.value.faults] == [where]
