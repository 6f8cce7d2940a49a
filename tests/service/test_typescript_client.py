"""The TypeScript client: its types are those of the server, it compiles, and it runs the scenario of all clients.

The package is built in a copy, with the tools of its lock, which a test machine fetches by their hashes.
"""

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.pages import blocks
from tests.support.scenario import FOLDER, scenario
from tests.support.served_shop import served_shop

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "typescript"
PROGRAMS = {
    page: [block.text for block in blocks(ROOT / page) if block.language == "ts"]
    for page in ("docs/clients.md", "clients/typescript/README.md")
}
"""Programs of pages in TypeScript."""
ADDRESS = "http://127.0.0.1:8765"
"""Of the server in them."""
NODE = "declare const process: { env: Record<string, string | undefined> };\n"
"""What programs have of Node; its types are no tool of the package."""
PRICES = '[items.attributes]\nprice = "number"\n'
"""Configuration of a shop whose items may be asked for by price."""
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


def test_pages_have_programs():
    """A fence of another name would leave nothing to compile."""
    assert [len(found) for found in PROGRAMS.values()] == [1, 1]


@pytest.mark.integration
@pytest.mark.parametrize("page", PROGRAMS)
def test_programs_of_pages_hold_their_types_and_run(package, program, tmp_path, page):
    """As they are printed, by the compiler and the settings of the package, and then on a server."""
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "midstream-client").symlink_to(package)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (source,) = PROGRAMS[page]
    (tmp_path / "node.d.ts").write_text(NODE)
    settings = json.loads((package / "tsconfig.json").read_text("utf-8"))["compilerOptions"]
    settings |= {"rootDir": ".", "outDir": "out", "declaration": False, "noUnusedLocals": False}
    (tmp_path / "tsconfig.json").write_text(
        json.dumps({"compilerOptions": settings, "files": ["page.ts", "node.d.ts"]})
    )
    shop = tmp_path / "shop"
    shop.mkdir()
    with served_shop(shop, PRICES) as url:
        items = [{"type": "item", "item_id": name, "attributes": {"price": 9}} for name in ("lamp", "shade")]
        httpx.post(f"{url}/v1/events", json=items).raise_for_status()
        (tmp_path / "page.ts").write_text(source.replace(ADDRESS, url))
        run(tmp_path, str(package / "node_modules" / ".bin" / "tsc"), "-p", str(tmp_path))
        said = run(tmp_path, program("node"), "out/page.js")
        acts = httpx.get(f"{url}/v1/users/ann").json()
    assert sorted(said.split()) == ["lamp", "shade"]
    assert '"lamp"' in json.dumps(acts)


def test_the_lock_names_no_registry():
    """The lock has versions and hashes; where they are fetched is the machine's own business."""
    lock = (PACKAGE / "package-lock.json").read_text("utf-8")
    assert "resolved" not in lock
    assert "://" not in lock
    assert lock.count('"integrity": "sha512-') == lock.count('"node_modules/')
