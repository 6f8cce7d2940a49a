"""The page of tested systems says what ran, in the versions of the locks, and is made of what runs left behind."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.services import compatibility
from tests.support.services.beside import BESIDE
from tests.support.services.compatibility import JSON, PAGE, Row, decode, encode, names_of_tests, page, rows_of
from tests.support.services.record import cache_file
from tests.support.services.systems import SYSTEMS
from tests.support.services.versions import CLIENTS, LIBRARIES, SAID

ROOT = Path(__file__).parents[1]
FILE = "tests/test_compatibility.py"
RUN_S_MAX = 120


def kept():
    """The rows that the page was made of."""
    return decode((ROOT / JSON).read_text("utf-8"))


def how_of(name, root, libraries):
    """How far something is tested, and in which version."""
    if name in SYSTEMS:
        return "server-tested", SYSTEMS[name].package.version
    return (BESIDE[name].how, BESIDE[name].locked(root)) if name in BESIDE else ("tested", libraries.get(name, ""))


def faults(rows, root=ROOT):
    """What is out of date in rows."""
    clients, libraries = compatibility.locked_clients(root), compatibility.locked_libraries(root)
    found = [f"{name} has no row" for name in {*SYSTEMS, *BESIDE, *LIBRARIES.values()} - rows.keys()]
    for name, row in rows.items():
        how, version = how_of(name, root, libraries)
        if row.server != version and name not in compatibility.without_lock():
            found.append(f"{name} {row.server}: the lock has {version or 'none'}")
        found += [
            f"{package} {version}: the lock has {clients.get(package)}"
            for package, version in row.clients.items()
            if clients.get(package) != version
        ]
        found += [f"{file} is gone" for file in (*row.passed, *row.failed) if not (root / file).exists()]
        if row.level != how or (CLIENTS.get(name) and not row.clients):
            found.append(f"{name} is {row.level} with {len(row.clients)} clients")
    return found


def test_the_page_is_that_of_its_numbers():
    """Nobody writes it by hand; ``scripts/compatibility`` writes both."""
    assert (ROOT / PAGE).read_text("utf-8") == page(kept(), ROOT)


def test_every_system_is_tested_in_the_versions_of_the_locks():
    """Behind a change of a lock or of a test's file it is red until scripts/test-integrations ran again."""
    assert not faults(kept())
    assert SYSTEMS.keys() == SAID.keys() == CLIENTS.keys()


def test_a_library_of_another_version_or_without_a_test_is_named():
    """As a system is; and each has a version in a lock."""
    assert compatibility.locked_libraries(ROOT).keys() == set(LIBRARIES.values())
    good = kept()["torch"]
    assert not faults({**kept(), "torch": good})
    assert faults({**kept(), "torch": Row("1.0", {}, good.passed, {}, "tested")}) == [
        f"torch 1.0: the lock has {good.server}"
    ]
    assert faults({**kept(), "torch": Row(good.server, {}, {}, {}, "tested")}) == ["torch is not tested with 0 clients"]
    assert faults({name: row for name, row in kept().items() if name != "torch"}) == ["torch has no row"]


GOOD = Row("4.4.0", {"confluent-kafka": compatibility.locked_clients(ROOT)["confluent-kafka"]}, {FILE: 2}, {})


@pytest.mark.parametrize(
    "row, said",
    [
        (GOOD, ""),
        (Row("4.3.0", GOOD.clients, GOOD.passed, {}), "the lock has 4.4.0"),
        (Row("4.4.0", {"confluent-kafka": "1.0"}, GOOD.passed, {}), "the lock has"),
        (Row("4.4.0", {}, GOOD.passed, {}), "0 clients"),
        (Row("4.4.0", GOOD.clients, {}, {}), "not tested"),
        (Row("4.4.0", GOOD.clients, {"tests/test_of_the_past.py": 1}, {}), "is gone"),
        (Row("4.4.0", GOOD.clients, GOOD.passed, {FILE: 1}), "fails"),
    ],
)
def test_what_is_out_of_date_is_named(row, said):
    """Each kind of it, and nothing else."""
    found = [each for each in faults({**kept(), "kafka": row}) if "kafka" in each or "is gone" in each]
    assert said in "; ".join(found)
    assert bool(found) == bool(said)


def entry(version, outcome="passed", system="kafka"):
    """What the record has of one test."""
    return {"outcome": outcome, "given": {system: {"server": version, "clients": {"confluent-kafka": "2"}}}}


def test_a_row_counts_the_tests_that_there_are():
    """By file and outcome, parametrized ones each; a test that is gone counts no more."""
    record = {
        "a.py::test_x[1]": entry("4"),
        "a.py::test_x[2]": entry("4", "failed"),
        "b.py::test_y": entry("4"),
        "b.py::test_gone": entry("3"),
    }
    row = rows_of(record, ["a.py::test_x", "b.py::test_y"])["kafka"]
    assert row == Row("4", {"confluent-kafka": "2"}, {"a.py": 1, "b.py": 1}, {"a.py": 1})
    assert row.level == "**fails**"
    assert rows_of({}, [])["kafka"].level == "not tested"
    assert decode(encode({"kafka": row})) == {"kafka": row}


def test_servers_of_two_versions_are_no_row():
    """One of the runs is older than a change of the lock, and would say what is not so."""
    with pytest.raises(ValueError, match="kafka: tests met"):
        rows_of({"a.py::test_x": entry("4"), "a.py::test_y": entry("5")}, ["a.py::test_x", "a.py::test_y"])


def test_tests_are_found_by_name():
    """Functions and methods, this one among them."""
    found = names_of_tests(ROOT, [FILE, "tests/test_of_the_past.py"])
    assert f"{FILE}::test_tests_are_found_by_name" in found
    assert {each.partition("::")[0] for each in found} == {FILE}


def test_a_run_leaves_what_its_tests_were_given(tmp_path):
    """Of those alone that asked for a server: passed and failed, in any phase, none that skipped; others stay."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.support.services.record"]\n', "utf-8")
    code = """
        import pytest
        from tests.support.services.record import note

        @pytest.fixture
        def broken_end():
            yield
            raise OSError

        def test_passes():
            note("redis", "8")

        def test_fails():
            note("redis", "8")
            assert False

        def test_ends_badly(broken_end):
            note("redis", "8")

        def test_skips():
            note("redis", "8")
            pytest.skip("no server")

        def test_asks_nobody():
            pass
    """
    (tmp_path / "test_it.py").write_text(textwrap.dedent(code), "utf-8")
    before = {"test_it.py::test_passes": entry("7", "failed", "redis"), "test_other.py::test_x": entry("4")}
    cache = cache_file(tmp_path)
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps(before), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", f"--rootdir={tmp_path}", "test_it.py"]
    subprocess.run(command, cwd=tmp_path, check=False, timeout=RUN_S_MAX, capture_output=True)
    record = json.loads(cache.read_text("utf-8"))
    assert record.pop("test_other.py::test_x") == before["test_other.py::test_x"]
    assert all(each["given"] == {"redis": {"server": "8", "clients": {}}} for each in record.values())
    outcomes = {name.partition("::test_")[2]: each["outcome"] for name, each in record.items()}
    assert outcomes == {"passes": "passed", "fails": "failed", "ends_badly": "failed"}


@pytest.mark.parametrize(
    "name, line, version",
    [
        ("kafka", "[main] INFO org.apache.kafka.common.utils.AppInfoParser - Kafka version: 4.4.0", "4.4.0"),
        ("redis", "1:C * Redis version=8.2.3, bits=64, commit=00000000, modified=0", "8.2.3"),
        ("postgresql", "LOG:  starting PostgreSQL 18.6 on x86_64-pc-linux-gnu, compiled by gcc", "18.6"),
    ],
)
def test_a_server_says_its_version_in_its_log(name, line, version):
    """Where it stands by the pattern of its system."""
    found = re.search(SAID[name], line)
    assert found is not None
    assert found[1] == version
