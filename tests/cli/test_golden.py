"""What a newcomer reads who makes a mistake: ten configurations and ten commands, each with its exact words.

The words are files below ``golden/``. After a change that is meant, pytest with ``MIDSTREAM_GOLDEN=write`` writes them
anew (docs/contributing.md); read what ``git diff`` shows as somebody would who has never seen the program.
"""

import os
import re
from pathlib import Path

import pytest

from midstream.cli.app import main

GOLDEN = Path(__file__).with_name("golden")
CONFIGURATIONS = {
    "kind_of_a_source": '[[placements]]\nsources = [{ kind = "sesion_knn" }]\n',
    "setting_of_another_table": 'filter = "item.price < 50"\n\n[server]\nslate_size = 5\n',
    "port_and_unknown_setting": "[server]\nport = 99999\nprot = 8765\n",
    "no_toml": '[events.types]\nview = { weight = 1.0\n[server]\nhost = "::1"\n',
    "duration": '[sessions]\ngap = "30 minutes"\n',
    "attribute_kind": '[items.attributes]\nprice = "numeric"\n',
    "filter": '[items.attributes]\nprice = "number"\n\n[[placements]]\nfilter = "item.prize < 50"\n',
    "model_that_is_not_configured": (
        '[[models]]\nname = "taste"\nkind = "als"\n\n[[placements]]\nsources = [{ kind = "als", model = "tast" }]\n'
    ),
    "interaction_that_is_not_configured": '[[placements]]\nexclude = { wishlist = "30d" }\n',
    "component_of_ones_own": '[[placements]]\nsources = [{ kind = "custom", path = "components:Shelf" }]\n',
}
"""Content of ``midstream.toml`` by the name of its file below ``golden/config``."""
COMMANDS = {
    "no_such_command": ["recomend"],
    "no_such_option": ["recommend", "--expalin"],
    "folder_that_is_not_there": ["serve", "-f", "shpo"],
    "file_that_is_not_there": ["import", "cliks.csv"],
    "type_that_is_not_configured": ["import", "clicks.csv", "--type", "clik"],
    "type_of_another_sense": ["import", "clicks.csv", "--type", "wishlist"],
    "port_that_is_none": ["serve", "--port", "99999"],
    "port_and_host_of_others": ["serve", "--host", "0.0.0.0", "--port", "80"],  # noqa: S104  refused
    "ending_of_no_format": ["export", "out.xyz"],
    "time_that_is_none": ["export", "out.csv", "--since", "yesterday"],
    "argument_that_is_missing": ["models", "promote"],
    "number_that_is_none": ["recommend", "-n", "many"],
    "filter_of_a_list": ["items", "list", "--filter", "item.prize < 50"],
    "cursor_that_is_none": ["users", "list", "--cursor", "abc"],
    "time_of_a_list_that_is_none": ["slates", "list", "--since", "yesterday"],
    "user_that_is_missing": ["events", "list"],
}
"""Words behind ``midstream`` by the name of its file below ``golden/commands``."""


def said_by(words, capfd) -> str:
    """Return what a command says, with its exit status; places of this machine and its version of Python left out."""
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capfd.readouterr()
    assert said.out == ""
    text = re.sub(re.escape(str(Path.cwd())) + r"\b", "FOLDER", said.err)
    return f"$ midstream {' '.join(words)}\n{text.rstrip()}\nexit status {left.value.code}\n"


def hold(path: Path, said: str) -> None:
    """Compare with what a file says, or write it where that is asked for."""
    if os.environ.get("MIDSTREAM_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(said, "utf-8")
    assert said == path.read_text("utf-8")
    assert said.count("where: ") == said.count("came:  ") == said.count("right: ") == said.count("page:  ") >= 1
    assert "Traceback" not in said


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_wrong_configuration_says_what_to_do(tmp_path, monkeypatch, capfd, name):
    """Where, what came, what would be right and the page; nothing was served or written."""
    monkeypatch.chdir(tmp_path)
    Path("midstream.toml").write_text(CONFIGURATIONS[name])
    said = said_by(["check"], capfd)
    hold(GOLDEN / "config" / f"{name}.txt", said.replace("$ midstream", f"{CONFIGURATIONS[name]}\n$ midstream", 1))
    assert said.endswith("exit status 2\n")
    assert [each.name for each in tmp_path.iterdir()] == ["midstream.toml"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_command_says_what_to_do(tmp_path, monkeypatch, capfd, name):
    """The same four parts; no folder was made, no file written, nothing bound."""
    monkeypatch.chdir(tmp_path)
    Path("clicks.csv").write_text("user_id,item_id\nann,lamp\n")
    said = said_by(COMMANDS[name], capfd)
    hold(GOLDEN / "commands" / f"{name}.txt", said)
    assert said.endswith("exit status 2\n")
    assert [each.name for each in tmp_path.iterdir()] == ["clicks.csv"]


def test_files_are_those_that_are_compared():
    """A file whose case is gone says nothing."""
    there = {path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*.txt")}
    assert there == {f"config/{each}.txt" for each in CONFIGURATIONS} | {f"commands/{each}.txt" for each in COMMANDS}
