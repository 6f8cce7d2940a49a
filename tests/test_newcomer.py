"""The four steps to a source of one's own work as docs/contributing.md has them: its blocks, in a fresh folder."""

import re
import shlex
import textwrap
from pathlib import Path

import pytest

from midstream.cli.app import main

PAGE = Path(__file__).parents[1] / "docs" / "contributing.md"
_BLOCK = re.compile(r"^ *```(sh|python|toml)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_FILES = {"python": "components.py", "toml": "midstream.toml"}
"""What a reader adds a block to."""


def steps() -> list[list[tuple[str, str]]]:
    """Return language and text of each block, by step."""
    section = PAGE.read_text("utf-8").split("\n## A source of your own in four steps\n")[1].split("\n## ")[0]
    found = re.split(r"^\d\. ", section, flags=re.MULTILINE)[1:]
    return [[(match[1], textwrap.dedent(match[2])) for match in _BLOCK.finditer(step)] for step in found]


class Newcomer:
    """Does what the page says, in the folder that the page leads to."""

    def __init__(self, monkeypatch, capfd):
        """Begin where the test runs."""
        self._chdir = monkeypatch.chdir
        self._capfd = capfd

    def take(self, step):
        """Follow the blocks of a step; return the exit statuses and all that was printed."""
        statuses = []
        for language, text in step:
            if language == "sh":
                done = [self._run(shlex.split(line)) for line in text.splitlines()]
                statuses += [status for status in done if status is not None]
            else:
                with Path(_FILES[language]).open("a", encoding="utf-8") as file:
                    file.write(f"\n\n{text}")
        said = self._capfd.readouterr()
        return statuses, said.out + said.err

    def _run(self, words):
        if words[0] == "cd":
            self._chdir(words[1])
            return None
        assert words[0] == "midstream", words
        with pytest.raises(SystemExit) as left:
            main(words[1:])
        return left.value.code


@pytest.fixture
def newcomer(tmp_path, monkeypatch, capfd):
    """Somebody in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return Newcomer(monkeypatch, capfd)


def test_four_steps_lead_to_a_source_of_ones_own(newcomer):
    """Init, edit, check, recommend: each ends well, the source is found good, and its items are in the answer.

    With an item twice it keeps no promise any more, and the third step says so.
    """
    first, second, third, fourth = steps()
    assert [[language for language, _ in step] for step in (first, second, third, fourth)] == [
        ["sh"],
        ["python", "toml"],
        ["sh"],
        ["sh"],
    ]
    assert newcomer.take(first)[0] == [0, 0]
    newcomer.take(second)
    statuses, said = newcomer.take(third)
    assert statuses == [0], said
    assert re.search(r"bargains\W+bargains\W+good", said), said
    statuses, said = newcomer.take(fourth)
    assert statuses == [0], said
    assert re.search(r"proposed: .*bargains 5", said), said
    assert re.search(r"1 .*bargains 1", said), said
    assert "failed" not in said
    code = Path("components.py").read_text("utf-8")
    Path("components.py").write_text(code.replace("item_index[cheapest]", "item_index[cheapest[[0, 0]]]"), "utf-8")
    statuses, said = newcomer.take(third)
    assert statuses == [1], said
    assert not re.search(r"bargains\W+bargains\W+good", said), said
