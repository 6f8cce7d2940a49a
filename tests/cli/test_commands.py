"""Every command does its one thing, leaves with 0, 1 or 2, and says what is wrong in four parts."""

import csv
import json
import re
import sys

import pytest

from midstream.app.inspect.doctor import examine
from midstream.app.opening import config_of
from midstream.cli import console
from midstream.cli.app import main
from midstream.core.kinds import Kind
from midstream.events.disk import RealDisk
from midstream.events.schema import Event, build
from midstream.events.segments.segments import SegmentLog


@pytest.fixture
def run(capfd):
    """Return a function that runs a command and gives its exit status, standard output and standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(each) for each in arguments])
        said = capfd.readouterr()
        return left.value.code, said.out, said.err

    return call


@pytest.fixture
def shop(tmp_path, run):
    """Return a folder with the starter files, its example imported."""
    folder = tmp_path / "shop"
    assert run("init", folder)[0] == 0
    status, out, err = run("import", folder / "example.ndjson", "-f", folder, "--json")
    assert (status, json.loads(out)["recorded"]) == (0, 340), err
    return folder


def test_init_writes_files_that_work_and_overwrites_none(tmp_path, run):
    """The starter's configuration is read, its component checks, and a second init changes nothing and says why."""
    status, out, _ = run("init", tmp_path)
    assert status == 0
    assert {each.name for each in tmp_path.iterdir()} == {"midstream.toml", "components.py", "example.ndjson"}
    assert [each.name for each in config_of(tmp_path).placements] == ["default", "shelf"]
    assert len((tmp_path / "example.ndjson").read_text().splitlines()) == 340
    assert f"cd {tmp_path}, midstream import" in out
    before = (tmp_path / "components.py").read_text()
    (tmp_path / "midstream.toml").unlink()
    status, _, err = run("init", tmp_path)
    assert status == 1
    assert "components.py" in err
    assert (tmp_path / "components.py").read_text() == before
    assert not (tmp_path / "midstream.toml").exists()


def test_check_tries_components_of_ones_own(tmp_path, run):
    """A good component passes; one that repeats an item, and one that raises, are named and the status is 1."""
    run("init", tmp_path)
    status, out, _ = run("check", "-f", tmp_path, "--json")
    findings = {(each["placement"], each["part"]): each["problem"] for each in json.loads(out)["findings"]}
    assert (status, set(findings.values())) == (0, {""})
    assert ("shelf", "shelf") in findings
    good = (tmp_path / "components.py").read_text()
    for wrong, sign in (
        ("return Proposal(item_index[[0, 0]], score[[0, 0]])", "distinct"),
        ("return Proposal(item_index[:1], undefined)", "NameError"),
        ("raise __import__('asyncio').CancelledError", "CancelledError"),
        ("raise GeneratorExit", "GeneratorExit"),
    ):
        at = good.index("        items = moment")
        (tmp_path / "components.py").write_text(
            good[:at]
            + "        item_index, score = moment.table(Items).hottest(HALF_LIFE_MS, 5)\n        "
            + wrong
            + "\n"
        )
        status, out, _ = run("check", "-f", tmp_path, "--json")
        problems = {
            each["part"]: each["problem"] for each in json.loads(out)["findings"] if each["placement"] == "shelf"
        }
        assert status == 1
        assert sign in problems["shelf"]
    status, out, _ = run("recommend", "shelf", "-f", tmp_path, "--explain", "--json")
    assert (status, json.loads(out)["failures"]) == (0, {"shelf": "GeneratorExit: "})


def test_check_warns_of_items_that_nothing_named(shop, run):
    """Of pins and editorial lists; in a simulated shop none could be known, so nothing is said."""
    path = shop / "midstream.toml"
    known, other = (json.loads(line)["item_id"] for line in (shop / "example.ndjson").read_text().splitlines()[:2])
    rules = (
        f'rules = [{{ kind = "pin", name = "hero", items = ["{known}", "lmap-1"], positions = [0, 1] }},'
        f' {{ kind = "pin", name = "fine", items = ["{other}"], positions = [2] }}]\n'
    )
    text = path.read_text().replace("editorial = []\n", 'editorial = ["lmap-2"]\n', 1)
    path.write_text(text.replace("rules = []\n", rules, 1))
    status, out, err = run("check", "-f", shop, "--json")
    assert status == 0, err
    found = {each["part"]: each["warning"] for each in json.loads(out)["findings"] if each["warning"]}
    assert found.keys() == {"hero", "editorial"}
    assert "of its 2 items 1 are unknown" in found["hero"]
    assert "lmap-1" in found["hero"]
    assert "lmap-2" in found["editorial"]
    assert "warning: of its" in run("check", "-f", shop)[1]


def test_a_wrong_configuration_is_told_in_four_parts(tmp_path, run):
    """Where, what came, what would be right, page; no traceback, status 2."""
    (tmp_path / "midstream.toml").write_text('[[placements]]\nsources = [{ kind = "sesion_knn" }]\n')
    status, _, err = run("check", "-f", tmp_path)
    assert status == 2
    assert "where: midstream.toml: $.placements[0].sources[0].kind\n" in err
    assert 'Nearest: "session_knn"' in err
    assert "midstream docs sources" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("recommend", "--nope"),
        ("nope",),
        ("import",),
        ("import", "/no/such/file"),
        *(
            (command, "-f", "/no/such/folder")
            for command in ("check", "doctor", "export", "rebuild", "recommend", "size")
        ),
    ],
)
def test_wrong_use_is_2(run, arguments):
    """Options, commands and files that are not there."""
    assert run(*arguments)[0] == 2


FEATURES = """
[[features]]
name = "views"
kind = "count"
actions = ["view"]
windows = ["1h", "24h"]
[[features]]
name = "mine"
kind = "count"
scope = "user"
actions = ["view"]
"""


@pytest.fixture
def featured(shop):
    """Return the shop with features declared, which a placement reads."""
    path = shop / "midstream.toml"
    placed = path.read_text().replace("[[placements]]", FEATURES + '[[placements]]\nfeatures = ["views"]', 1)
    path.write_text(placed.replace("features = []\n", "", 1))
    return shop


def test_features_are_listed_shown_and_sized(featured, run):
    """Columns, readers, ages and memory; values of now, of items and a user that are named or found."""
    status, out, err = run("features", "list", "--json", "-f", featured)
    assert status == 0, err
    views, mine = json.loads(out)
    assert (views["name"], views["kind"], views["columns"]) == ("views", "count", ["views_1h", "views_1d"])
    assert (views["used_by"], mine["used_by"], mine["scope"]) == (["default"], [], "user")
    assert views["last_counted"] > 0
    assert views["complete_since"] is None
    status, out, _ = run("features", "size", "--json", "-f", featured)
    sizes = json.loads(out)
    assert status == 0
    assert list(sizes) == ["views", "mine", "all features"]
    tables = json.loads(run("size", "--json", "-f", featured)[1])
    assert sizes["all features"] == tables["cells"]
    assert sum(sizes[name]["bytes_max"] for name in ("views", "mine")) == pytest.approx(tables["cells"]["bytes_max"])
    item = json.loads((featured / "example.ndjson").read_text().splitlines()[0])["item_id"]
    status, out, _ = run("features", "show", "views", "--item", item, "--item", "nothing", "--json", "-f", featured)
    shown = json.loads(out)
    assert (status, shown["items"], len(shown["values"])) == (0, [item, "nothing"], 2)
    assert shown["values"][1] == [None, None]
    assert shown["feature"]["name"] == "views"
    assert shown["user"] == "the one seen last"
    found = json.loads(run("features", "show", "mine", "--json", "-f", featured)[1])
    assert len(found["items"]) == 5
    assert found["values"][0][0] >= 1
    nobody = json.loads(run("features", "show", "mine", "--user", "zoe?", "--json", "-f", featured)[1])
    assert nobody["values"] == [[None]] * 5
    assert nobody["unknown"] == ['nothing is known of user "zoe?"']
    for command in (("list",), ("size",), ("show", "views")):
        status, out, _ = run("features", *command, "-f", featured)
        assert (status, "views" in out, "None" in out, " = [], " in out) == (0, True, False, False)


WIDE = """
[[tables]]
name = "quality"
path = "quality.csv"
[[features]]
name = "item_quality_of_the_night"
kind = "external"
table = "quality"
columns = ["one_number", "another_number"]
[[features]]
name = "interactions_of_this_item"
kind = "count"
actions = ["view"]
windows = ["1h", "2h", "3h", "4h", "6h", "12h", "24h", "7d"]
[[features]]
name = "interactions_of_this_item_alone"
kind = "count"
actions = ["view", "purchase"]
[[features]]
name = "of_the_request"
kind = "number"
scope = "request"
"""


@pytest.fixture
def wide(shop):
    """Return the shop with names that do not fit beside each other, one feature of several columns, and a table."""
    (shop / "quality.csv").write_text("id,time,one_number,another_number\n1,2024-01-01T00:00:00Z,1,2\n")
    path = shop / "midstream.toml"
    path.write_text(path.read_text().replace("[[placements]]", WIDE + "[[placements]]", 1))
    return shop


def whole(out, name):
    """Return whether a name stands in a table, in one line or folded into some below each other."""
    columns = zip(*(re.split("[│┃]", line) for line in out.splitlines() if re.match("[│┃]", line)), strict=True)
    return any(name in "".join(cell.strip() for cell in column) for column in columns)


def test_tables_for_people_cut_no_name(wide, run, monkeypatch):
    """At 80 columns names are folded, columns counted, and the many columns of one feature stand below each other."""
    monkeypatch.setattr(console.out.rich, "width", 80)
    out = run("features", "list", "-f", wide)[1]
    names = ["interactions_of_this_item", "interactions_of_this_item_alone", "of_the_request"]
    assert [name for name in names if not whole(out, name)] == []
    assert "…" not in out
    out = run("features", "show", names[0], "-f", wide)[1]
    assert "…" not in out
    assert [each for each in ("1h", "2h", "7d") if not whole(out, f"{names[0]}_{each}")] == []
    assert max(map(len, out.splitlines()[-10:])) <= 80


def test_what_is_not_there_is_a_dash(wide, run):
    """No value is no number, and what counts nothing was not counted never."""
    out = run("features", "show", "item_quality_of_the_night", "--item", "nothing", "-f", wide)[1]
    assert ("nan" in out, "–" in out) == (False, True)
    assert re.search("last counted +–", out)
    rows = [line.split("│") for line in run("features", "list", "-f", wide)[1].splitlines() if line.startswith("│")]
    assert [row[5].strip() == "–" for row in rows if row[2].strip()] == [True, False, False, True]


def test_an_empty_folder_is_said_to_be_empty(tmp_path, run):
    """No feature, nothing served: a sentence, not a table without rows; the status is 0."""
    for command in (("features", "list"), ("features", "size")):
        status, out, err = run(*command, "-f", tmp_path)
        assert (status, out) == (0, "")
        assert "no feature is declared" in err
    status, out, err = run("report", "-f", tmp_path)
    assert (status, out, "nothing served yet" in err) == (0, "", True)


def test_tables_from_outside_are_in_every_sum_of_memory(wide, run):
    """Of their features, of all features, and of all tables; now as it is, and at the maximum that the file says."""
    held = json.loads(run("features", "show", "item_quality_of_the_night", "--json", "-f", wide)[1])["feature"]
    table = {"bytes_now": held["table"]["bytes_now"], "bytes_max": 1 << 30}
    assert table["bytes_now"] > 0
    features = json.loads(run("features", "size", "--json", "-f", wide)[1])
    sizes = json.loads(run("size", "--json", "-f", wide)[1])
    assert features["item_quality_of_the_night"] == sizes["tables.quality"] == table
    for key, value in table.items():
        assert features["all features"][key] == sizes["cells"][key] + value
        assert sizes["all tables"][key] == sum(each[key] for name, each in sizes.items() if name != "all tables")


def test_a_feature_that_is_not_declared_is_named(featured, run):
    """With the nearest one, as an expected failure."""
    status, _, err = run("features", "show", "vews", "-f", featured)
    assert status == 1
    assert 'Nearest: "views"' in err


def test_check_reads_the_features_of_each_placement(featured, run):
    """As a part of its own, which keeps its promises."""
    status, out, err = run("check", "-f", featured, "--json")
    assert status == 0, err
    findings = {(each["placement"], each["part"]): each["problem"] for each in json.loads(out)["findings"]}
    assert findings["default", "features"] == ""
    assert findings["no placement", "mine"] == ""
    assert ("no placement", "views") not in findings


def test_an_export_into_a_folder_that_is_not_there_is_refused(featured, run):
    """In four parts, by the name that was given."""
    out = featured / "none" / "q.csv"
    status, _, err = run("export", out, "-f", featured)
    assert (status, err.splitlines()[0]) == (1, f"where: {out}")
    assert f"There is no folder {out.parent}." in err


def test_a_check_says_why_there_is_nothing_to_compare(featured, run):
    """No slate at all is another reason than slates without values."""
    status, _, err = run("features", "check", "-f", featured)
    assert (status, "no slate was served in this range" in err, "log_features" in err) == (2, True, False)
    out = ("--out", featured / "none.csv", "-f", featured)
    status, _, err = run("examples", "0..1", "--replay", "default", "--label", "purchase", *out)
    assert (status, "nan%" in err) == (0, False), err


def test_recommend_answers_and_explains(shop, run):
    """The slate has items with their sources; an unknown placement is an expected failure that names the nearest."""
    item = json.loads((shop / "example.ndjson").read_text().splitlines()[0])["item_id"]
    status, out, _ = run(
        "recommend", "shelf", "--session", "new", "--item", item, "-n", 4, "--json", "-f", shop, "--explain"
    )
    answer = json.loads(out)
    assert status == 0
    assert [each["position"] for each in answer["items"]] == [0, 1, 2, 3]
    assert item not in {each["id"] for each in answer["items"]}
    assert any("shelf" in each["sources"] for each in answer["items"])
    assert answer["recent"] == [item]
    assert run("recommend", "shelf", "-f", shop)[0] == 0
    status, _, err = run("recommend", "shelv", "-f", shop)
    assert status == 1
    assert 'Nearest: "shelf"' in err


def test_a_user_and_a_session_that_are_not_known_are_told(shop, run):
    """By ``recommend`` and ``features show``, on standard error and with ``--json``; one that is open is not."""
    path = shop / "midstream.toml"
    seen = '[[features]]\nname = "seen"\nkind = "count"\nscope = "session"\nactions = ["view"]\n'
    path.write_text(path.read_text().replace("[[placements]]", f"{seen}[[placements]]", 1))
    began = json.loads((shop / "example.ndjson").read_text().splitlines()[40])["session_id"]
    (shop / "new.ndjson").write_text('{"type": "view", "session_id": "open-1", "item_id": "a"}\n' * 2)
    assert run("import", shop / "new.ndjson", "-f", shop)[0] == 0
    for command in (("recommend",), ("features", "show", "seen")):
        ended = run(*command, "--session", began, "--user", "zoe", "-f", shop)[2]
        assert f'warning: no session "{began}" is open: it has ended, or no event names it' in ended
        assert 'warning: nothing is known of user "zoe"' in ended
        status, out, err = run(*command, "--session", "open-1", "--user", "u14", "--json", "-f", shop)
        assert (status, json.loads(out)["unknown"], "warning: no" in err) == (0, [], False)
    values = [
        json.loads(run("features", "show", "seen", "--session", each, "--json", "-f", shop)[1])["values"][0]
        for each in ("open-1", began)
    ]
    assert values == [[2.0], [None]]
    assert "for the session open-1" in run("features", "show", "seen", "--session", "open-1", "-f", shop)[2]


def test_reading_commands_record_nothing(shop, run):
    """Recommend, check, size, doctor, export and verify leave every byte of the folder as it was."""

    def content():
        return {path: path.read_bytes() for path in sorted((shop / "data").rglob("*")) if path.is_file()}

    before = content()
    for arguments in (("recommend",), ("check",), ("size",), ("doctor",), ("export",), ("rebuild", "--verify")):
        assert run(*arguments, "-f", shop)[0] == 0, arguments
    assert content() == before


def test_rebuild_writes_a_snapshot_that_verifies(shop, run):
    """After a rebuild both ways give one digest, and a flipped bit of the snapshot makes it be passed by."""
    assert run("rebuild", "-f", shop)[0] == 0
    status, out, _ = run("rebuild", "--verify", "--json", "-f", shop)
    told = json.loads(out)
    assert (status, told["snapshot_position"]) == (0, 341)
    assert told["from_the_beginning"] == told["from_snapshot"]
    array = max((shop / "data" / "snapshots").rglob("*.npy"), key=lambda path: path.stat().st_size)
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(content)
    status, out, _ = run("rebuild", "--verify", "--json", "-f", shop)
    assert (status, json.loads(out)["snapshot_position"]) == (0, 0)
    status, _, err = run("doctor", "-f", shop)
    assert status == 1
    assert "SHA-256" in err


def test_doctor_finds_and_repairs_damage(shop, run):
    """A flipped byte in the middle of the log is found; the repair cuts there, keeps the rest aside, and all works."""
    log = SegmentLog(shop / "data" / "log", RealDisk(), bytes(16))
    for _ in range(2):
        log.append(build([Event(Kind.TICK, log_time_ms=log.last_log_time_ms)]))
    log.close()
    segment = next((shop / "data" / "log").glob("*.segment"))
    content = bytearray(segment.read_bytes())
    content[200] ^= 1
    segment.write_bytes(content)
    status, _, err = run("doctor", "-f", shop)
    assert status == 1
    assert "doctor --repair" in err
    assert run("recommend", "-f", shop)[0] == 1
    status, out, _ = run("doctor", "--repair", "-f", shop)
    assert status == 0
    assert "kept aside" in out
    assert run("recommend", "-f", shop)[0] == 0


def test_doctor_says_who_holds_the_lock(shop):
    """While a process has the folder open, its number is told."""
    log = SegmentLog(shop / "data" / "log", RealDisk(), bytes(16))
    try:
        assert "process" in str(examine(shop, config_of(shop)).facts["lock"])
    finally:
        log.close()
    assert examine(shop, config_of(shop)).facts["lock"] == "free"


def test_size_counts_every_table(shop, run):
    """Bytes now are within bytes at the maximum, and the sum is the sum."""
    sizes = json.loads(run("size", "--json", "-f", shop)[1])
    total = sizes.pop("all tables")
    assert {"users", "items", "session_index"} <= sizes.keys()
    assert all(0 <= each["bytes_now"] <= each["bytes_max"] for each in sizes.values())
    assert total["bytes_max"] == sum(each["bytes_max"] for each in sizes.values())


def test_an_import_of_which_nothing_is_an_event_fails(tmp_path, run):
    """One good row is enough for 0; with none the status is 1, and where is no terminal no progress is shown."""
    file = tmp_path / "a.csv"
    file.write_text("type,user_id,item_id\nvieew,ann,a\n")
    status, out, err = run("import", file, "-f", tmp_path)
    assert (status, out.splitlines()[0][:18]) == (1, "a.csv: 0 recorded ")
    assert "no row of the file is an event" in err
    assert err.startswith("1 rows rejected")
    file.write_text("type,user_id,item_id\nvieew,ann,a\nview,ann,a\n")
    assert run("import", file, "-f", tmp_path)[0] == 0


def test_import_options_reach_the_file(tmp_path, run):
    """Columns, types, constants and times are taken from the command line."""
    file = tmp_path / "a.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(
            [("visitor", "sku", "what", "at", "page"), ("7", "lamp", "CLICK", "2024-01-02 03:04", "x")]
        )
    status, out, err = run(
        *(
            "import",
            file,
            "-f",
            tmp_path,
            "--map",
            "user_id=visitor,item_id=sku",
            "--map",
            "type=what",
            "--map",
            "time=at",
        ),
        *("--types", "CLICK=view", "--time-format", "%Y-%m-%d %H:%M", "--set", "session_id=s"),
    )
    assert (status, "1 recorded" in out) == (0, True), err
    assert "page" in err
    told = run("export", "--kind", "interaction", "-f", tmp_path)[1]
    assert run("export", "-", "--kind", "interaction", "-f", tmp_path)[1] == told
    event = json.loads(told)
    assert (event["type"], event["user_id"], event["session_id"]) == ("view", "7", "s")
    assert event["time"] == event["log_time"] == 1_704_164_640_000


def test_a_bug_is_not_hidden(monkeypatch):
    """What is no expected failure comes out as it is."""
    monkeypatch.setitem(sys.modules, "midstream.app.operate.memory_report", None)
    with pytest.raises(ImportError):
        main(["size"])


def test_report_prints_a_table_or_json(shop, run):
    """Nothing was served yet: no rows, and every count is there."""
    status, _, err = run("report", "-f", shop)
    assert status == 0
    assert "outcome joined: 0" in err
    status, out, _ = run("report", "-f", shop, "--json")
    assert (status, json.loads(out)["rows"], json.loads(out)["held"]) == (0, [], 0)


def test_report_of_windows_says_that_nothing_was_served(shop, run):
    """Online metrics as a table or JSON; a wrong window is a wrong use."""
    status, _, err = run("report", "--window", "1h", "-f", shop)
    assert (status, "nothing served in these windows" in err) == (0, True)
    status, out, _ = run("report", "--window", "1h", "--window", "1d", "-f", shop, "--json")
    assert (status, json.loads(out)["rows"]) == (0, [])
    status, _, err = run("report", "--window", "soon", "-f", shop)
    assert (status, "midstream docs online-metrics" in err) == (2, True)


def test_runs_of_imports_are_listed_and_taken_back(tmp_path, run):
    """The name that an import prints is the one of the list and of --undo, and the same file goes in again."""
    file = tmp_path / "clicks.csv"
    file.write_text("user_id,item_id,time\nann,lamp,1700000000000\nbob,mug,1700000001000\n")
    status, out, _ = run("import", file, "--type", "view", "-f", tmp_path)
    assert status == 0
    name = re.findall(r"--undo (\S+) takes it back", out)[0]
    assert json.loads(run("import", "--runs", "-f", tmp_path, "--json")[1])["runs"][0]["run"] == name
    assert name in run("import", "--runs", "-f", tmp_path)[1]
    status, out, _ = run("import", file, "--type", "cart", "-f", tmp_path)
    assert (status, "2 recorded" in out) == (0, True)
    status, out, _ = run("import", "--undo", name, "-f", tmp_path)
    assert (status, "2 events taken back" in out) == (0, True)
    status, _, err = run("import", "--undo", name, "-f", tmp_path)
    assert (status, "taken back already" in err) == (1, True)
    assert run("import", file, "--runs", "-f", tmp_path)[0] == 2


def test_an_event_id_of_other_content_is_told_and_ends_with_1(tmp_path, run):
    """Each such row is counted, the first have their lines, on standard error; what was there stays."""
    file = tmp_path / "a.csv"
    file.write_text("event_id,type,user_id,item_id\ne1,view,ann,lamp\ne2,view,ann,mug\n")
    assert run("import", file, "-f", tmp_path)[0] == 0
    file.write_text("event_id,type,user_id,item_id\ne1,view,ann,lamp\ne2,cart,ann,mug\ne3,view,ann,mug\n")
    status, out, err = run("import", file, "-f", tmp_path)
    assert (status, "1 recorded" in out) == (1, True)
    assert "1 rows were NOT recorded" in err
    assert 'where: line 3: event_id\ncame:  "e2" is the id of an event with other content' in err
