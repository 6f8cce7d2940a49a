"""The tutorial of docs/tutorial.md works as it is printed: its blocks run in order, and say what the page says.

One shell runs all of them in a fresh folder, on the public file that the page names. The first block makes the
environment of a checkout, which the test has already. Where the data folder is missing this skips, and in CI fails.
"""

import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.quality.data_folder import DATA_VARIABLE, data_folder
from tests.support.patience import PATIENCE_S
from tests.support.quickstart import PORT
from tests.support.readme import free_port

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
SET, FILE, UNPACKED = "eshop-clothing-2008", "e-shop_clothing_2008.csv.gz", "e-shop clothing 2008.csv"
INSTALL = "./scripts/env\n"
LEFT_OUT = "…"
MODEL_SECTIONS = 6
"""From this section on a fitted model answers: its numbers and the items that it chooses may be others elsewhere."""
_NEXT = "--- next"
_WAIT = f"""\
for _ in $(seq {PATIENCE_S * 10:.0f}); do [ -s data/server.url ] && break; sleep 0.1; done
"""
_BLOCK = re.compile(r"^```(sh|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMES = re.compile(
    r"\d{8}-\d{6}-[0-9a-f]{4}|\d{4}-[0-9a-f]{12}|AAAA[\w-]{12}|(?<![\w-])[\w-]{32}(?![\w-])"
    r"|\d+\.\d s\b(?:, after a start of \d+ s)?"
)
"""A run, a version, a log position, a request, and seconds, which are more where the first start compiles."""
_FIGURES = re.compile(r"\b[ABCP]\d{1,2}\b|[-+]?\d[\d,.]*")
"""An item, a number."""
_JUDGED = re.compile(r"^sampled\.(?:blend\.)?NDCG@10\s+(\S+)$", re.MULTILINE)
"""What a ranker is worth, and then what the blend is."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block to run, and the lines that the page shows of what it prints."""

    section: int
    language: str
    text: str
    printed: tuple[str, ...] = ()

    def script(self) -> str:
        """Return what a reader types; a program goes to the file that its first line names."""
        if self.language == "python":
            name = self.text.split("\n", 1)[0].removeprefix("# ")
            return f"cat > {name} <<'END'\n{self.text}END\n"
        return self.text + (_WAIT if "midstream serve" in self.text else "")


def blocks() -> list[Block]:
    """Return the blocks of the page in their order."""
    found: list[Block] = []
    for number, section in enumerate(PAGE.read_text("utf-8").split("\n## ")):
        for language, text in _BLOCK.findall(section):
            if language == "text":
                found[-1] = Block(number, found[-1].language, found[-1].text, tuple(text.splitlines()))
            else:
                found.append(Block(number, language, text))
    return found


def masked(line: str, section: int) -> str:
    """Return a line without what differs between two runs, and in sections with a model without its figures."""
    line = _NAMES.sub("~", line)
    return " ".join((_FIGURES.sub("~", line) if section >= MODEL_SECTIONS else line).split())


def unsaid(shown: Iterable[str], said: Iterable[str], section: int) -> Iterator[str]:
    """Yield the lines of a page that were not printed, or not in this order.

    ``…`` ends a line that goes on, and alone stands for lines that the page leaves out.
    """
    lines = iter([masked(line, section) for line in said])
    for line in shown:
        if line == LEFT_OUT:
            continue
        begin = masked(line.removesuffix(LEFT_OUT), section)
        is_whole = not line.endswith(LEFT_OUT)
        if not any(line == begin if is_whole else line.startswith(begin) for line in lines):
            yield line


def packed() -> Path:
    """Return the public file."""
    folder = data_folder(os.environ, ROOT)
    if folder is None or not (folder / SET / FILE).is_file():
        reason = f"{SET} is not there: {DATA_VARIABLE} names no folder that holds it, and none is beside the checkout"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder / SET / FILE


def said_by(to_run: Iterable[Block], folder: Path, port: str) -> list[list[str]]:
    """Run blocks in one shell; return the lines that each of them printed."""
    own = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{own}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "PYTHONUNBUFFERED": "1",  # lines come in the order of a terminal
    }
    script = [f"{block.script()}printf '\\n{_NEXT}\\n'" for block in to_run]
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -euo pipefail", "set -m", "exec 2>&1", *script]).replace(PORT, port)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return [part.splitlines() for part in done.stdout.replace(port, PORT).split(f"{_NEXT}\n")]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the tutorial sends with curl")
def test_tutorial_runs_and_prints_what_it_shows(tmp_path):
    """Every block ends with status 0 and prints the lines below it, and the sentences about the ranker hold."""
    source = packed()
    install, *to_run = blocks()
    assert install.text.startswith(INSTALL)
    assert os.access(ROOT / "scripts" / "env", os.X_OK)
    (tmp_path / "tutorial").mkdir()
    with gzip.open(source) as file:
        (tmp_path / "tutorial" / UNPACKED).write_bytes(file.read())

    said = said_by(to_run, tmp_path, free_port())
    assert len(said) == len(to_run) + 1
    for block, lines in zip(to_run, said, strict=False):
        missing = list(unsaid(block.printed, lines, block.section))
        assert missing == [], f"{block.text}\nprinted\n" + "\n".join(lines)

    text = "\n".join("\n".join(lines) for lines in said)
    ranker, blend = (float(figure) for figure in _JUDGED.findall(text)[:2])
    assert ranker > blend
    before, after = re.findall(r'"id":"(\w+)"', text), re.findall(r'"id": "(\w+)"', text)
    assert (len(before), before[2], after[2]) == (3, "P1", "P1")
    assert before[:2] != after[:2]
    assert after[0][0] == "A"  # trousers, as what was clicked


def test_a_line_that_is_not_printed_is_found():
    """What varies is passed over; another word, another order and, without a model, another number are not."""
    said = ["clicks.csv: 6,000 recorded in 1.4 s", "run 20260131-120000-3fa9: it", "1 A15 0.5"]
    assert list(unsaid(["clicks.csv: 6,000 recorded in 9.9 s", "…", "run 20250101-010101-aaaa: …"], said, 2)) == []
    compiled = ["clicks.csv: 6,000 recorded in 2.0 s, after a start of 95 s"]
    assert list(unsaid(["clicks.csv: 6,000 recorded in 9.9 s"], compiled, 2)) == []
    assert list(unsaid(["clicks.csv: 6,001 recorded in 1.4 s"], said, 2)) == ["clicks.csv: 6,001 recorded in 1.4 s"]
    assert list(unsaid(["run 20260131-120000-3fa9: it", "clicks.csv: …"], said, 2)) == ["clicks.csv: …"]
    assert list(unsaid(["2 A16 0.75"], said, MODEL_SECTIONS)) == []
    assert list(unsaid(["2 lamp 0.75"], said, MODEL_SECTIONS)) == ["2 lamp 0.75"]


def test_each_section_has_something_to_type():
    """There are blocks to run in each of the nine steps: a heading of another form would leave none."""
    assert {block.section for block in blocks() if block.language == "sh"} == set(range(1, 10))
