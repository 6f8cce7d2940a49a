"""The browser client is what its sources say: built anew it has the committed bytes, and its own tests pass.

The package is built in a copy, with the tools of its lock, which a test machine fetches by their hashes.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from midstream.serving.browser.script import FILE
from tests.support.pages import blocks

pytestmark = [pytest.mark.integration, pytest.mark.service]

PACKAGE = Path(__file__).parents[2] / "clients" / "browser"
SECONDS_MAX = 110


@pytest.fixture(scope="module")
def package(program, tmp_path_factory):
    """A copy of the package with the tools that build it."""
    npm = program("npm")
    folder = tmp_path_factory.mktemp("package") / "clients" / "browser"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    run(folder, npm, "ci", "--no-audit", "--no-fund")
    return folder


def run(folder, *command):
    """Run a command of the package; return what it prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
    return done.stdout


def test_committed_file_is_what_the_sources_build(package, program):
    """Byte for byte, so that nobody has to trust a file that nobody reads."""
    run(package, program("node"), "build.mjs", str(package / "anew.js"))
    assert (package / "anew.js").read_bytes() == FILE.read_bytes(), "npm run build in clients/browser"


def test_sources_hold_their_types(package, program):
    """In the strict mode of the compiler; the declarations that users get name every function."""
    run(package, program("npm"), "run", "--silent", "types")
    run(package, program("npm"), "run", "--silent", "prepack")
    declared = (package / "dist" / "index.d.ts").read_text("utf-8")
    for name in ("track", "recommend", "observe", "identify", "consent", "flush", "counts"):
        assert re.search(rf"\b{name}\(", declared), name


def test_program_of_the_page_holds_its_types(package, program, tmp_path):
    """The one that imports the package, by the compiler and the settings of the package."""
    run(package, program("npm"), "run", "--silent", "prepack")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "midstream-browser").symlink_to(package)
    (source,) = [block.text for block in blocks(PACKAGE / "README.md") if block.language == "js"]
    (tmp_path / "page.js").write_text(source, "utf-8")
    settings = json.loads((package / "tsconfig.json").read_text("utf-8"))["compilerOptions"]
    settings |= {"target": "ES2022", "rootDir": ".", "declaration": False, "noEmit": True, "noUnusedLocals": False}
    settings |= {"allowJs": True, "checkJs": True}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": settings, "files": ["page.js"]}))
    run(tmp_path, str(package / "node_modules" / ".bin" / "tsc"), "-p", str(tmp_path))


def test_tests_of_the_package_pass(package, program):
    """On a page with timers that stand: queue, consent, retries, impressions."""
    said = run(package, program("npm"), "test", "--silent")
    assert re.search(r"^# pass (\d+)$", said, re.MULTILINE), said[-2_000:]
    (count,) = re.findall(r"^# tests (\d+)$", said, re.MULTILINE)
    assert int(count) >= 36
    assert re.search(r"^# fail 0$", said, re.MULTILINE)


def test_lock_names_no_registry():
    """The lock has versions and hashes; where they are fetched is the machine's own business."""
    lock = (PACKAGE / "package-lock.json").read_text("utf-8")
    assert "resolved" not in lock
    assert "://" not in lock
    assert lock.count('"integrity": "sha512-') == lock.count('"node_modules/')
