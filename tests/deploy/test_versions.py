"""Versions of the documentation: two are kept side by side, each with its search, and a name leads to the newest."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.libraries import missing

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SITE_S_MAX = 600


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository of its own with the pages, the program that builds them, and the script that calls it."""
    if os.environ.get("CI") == "true":
        subprocess.run([ROOT / "scripts" / "site", "env"], check=True, timeout=SITE_S_MAX)
    if not (ROOT / ".venv-site" / "bin" / "mike").exists():
        missing("mike is not installed; scripts/site makes .venv-site")
    folder = tmp_path_factory.mktemp("site")
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "mkdocs.yml", folder)
    (folder / ".venv-site").symlink_to(ROOT / ".venv-site")
    (folder / ".gitignore").write_text(".venv-site\nbuild\n")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Pages")
    return folder


def git(folder, *words):
    """Return what git prints in a repository."""
    named = [part for name in ("user.name=ann", "user.email=ann@shop.example") for part in ("-c", name)]
    done = subprocess.run(["git", *named, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def released(folder, *words):
    """Add a version of the pages; the branch of the sources and its files stay as they are."""
    environment = {**os.environ, "GIT_COMMITTER_NAME": "ann", "GIT_COMMITTER_EMAIL": "ann@shop.example"}
    command = [folder / "scripts" / "site", "version", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SITE_S_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
    assert git(folder, "branch", "--show-current").strip() == "main"
    assert git(folder, "status", "--porcelain") == ""


def test_versions_are_kept(repository):
    """An earlier version stays as it was; ``latest`` moves on; every page can be searched in its own version."""
    released(repository, "0.1", "latest")
    page = repository / "docs" / "glossary.md"
    page.write_text(page.read_text("utf-8") + "\n## Quokkas\n\nA quokka is none of them.\n", "utf-8")
    git(repository, "commit", "--quiet", "--all", "--message", "Name another word")
    released(repository, "0.2", "latest")
    told = json.loads(git(repository, "show", "gh-pages:versions.json"))
    assert [(each["version"], each["aliases"]) for each in told] == [("0.2", ["latest"]), ("0.1", [])]
    files = set(git(repository, "ls-tree", "-r", "--name-only", "gh-pages").splitlines())
    texts = {}
    for version in ("0.1", "0.2"):
        index = json.loads(git(repository, "show", f"gh-pages:{version}/search/search_index.json"))
        found = {each["location"]: each["title"] + each["text"] for each in index["docs"]}
        texts[version] = " ".join(found.values())
        pages = {path.relative_to(repository / "docs").with_suffix("") for path in (repository / "docs").glob("*.md")}
        named = {f"{version}/{name}/index.html" for name in pages if name.name != "README"}
        assert named <= files
        # An error names /docs/http.md, so there is something at that address.
        assert {f"{version}/{name}.md/index.html" for name in pages if name.name != "README"} <= files
        assert {each.partition("#")[0] for each in found} >= {f"{name}/" for name in pages if name.name != "README"}
    assert "quokka" not in texts["0.1"]
    assert "quokka" in texts["0.2"]
    assert git(repository, "show", "gh-pages:latest") == "0.2"  # a link
    assert "quokka" in git(repository, "show", "gh-pages:0.2/glossary/index.html")
    assert "quokka" not in git(repository, "show", "gh-pages:0.1/glossary/index.html")
