"""The TypeScript client: its types are those of the server, it compiles, and it runs the scenario of all clients.

The package is built in a copy, with the tools of its lock, which a test machine fetches by their hashes.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.scenario import FOLDER, scenario
from tests.support.served_shop import served_shop

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "typescript"
SECONDS_MAX = 110


@pytest.fixture(scope="module")
def package(program, tmp_path_factory):
    """A built copy of the package with the tools that build it."""
    npm = program("npm")
    folder = tmp_path_factory.mktemp("package") / "clients" / "typescript"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    run(folder, npm, "ci", "--no-audit", "--no-fund")
    run(folder, npm, "run", "--silent", "build")
    return folder


def run(folder, *command):
    """Run a command in a folder; return what it prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
    return done.stdout


@pytest.mark.integration
def test_the_types_are_those_of_the_server(package):
    """Generated anew they have the committed bytes: scripts/typescript-types writes them."""
    run(ROOT, "scripts/typescript-types", str(package))
    assert (package / "src" / "schema.ts").read_bytes() == (PACKAGE / "src" / "schema.ts").read_bytes()


@pytest.mark.integration
def test_declarations_have_every_operation(package):
    """Of the scenario, in the names of the language."""
    declared = (package / "dist" / "client.d.ts").read_text("utf-8")
    for step in scenario("shop")["steps"]:
        if "call" in step:
            first, *rest = step["call"].split("_")
            assert f"    {first}{''.join(word.title() for word in rest)}(" in declared, step["call"]


@pytest.mark.integration
def test_repetition_ids_and_errors(package, program):
    """On attempts whose outcomes the test gives."""
    assert run(package, program("node"), "test/repetition.mjs") == "done\n"


@pytest.mark.integration
def test_the_scenario(package, program, tmp_path):
    """The steps that the clients for Python run, on a server of its own."""
    shop = scenario("shop")
    with served_shop(tmp_path, shop["config"]) as url:
        said = run(package, program("node"), "test/scenario.mjs", url, str(FOLDER / "shop.json"))
    assert said == f"{len(shop['steps'])} steps\n"


def test_the_lock_names_no_registry():
    """The lock has versions and hashes; where they are fetched is the machine's own business."""
    lock = (PACKAGE / "package-lock.json").read_text("utf-8")
    assert "resolved" not in lock
    assert "://" not in lock
    assert lock.count('"integrity": "sha512-') == lock.count('"node_modules/')
