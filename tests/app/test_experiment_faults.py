"""What a wrong order of an experiment is told on the command line: four parts each; and the list on 80 columns."""

from pathlib import Path

import pytest

import midstream
from midstream.cli.app import main
from tests.support.fakes.rebuilds import write_config

HOME = '[[placements]]\nname = "home"\nslate_size = 5\n[[placements.sources]]\nkind = "popular"\n'
TWO = 'placement = "home"\nvariants = [{ name = "a" }, { name = "b"MORE }]\n'
WRONG = {
    "no toml": ("this is = =", "order.toml", "Expected '='", "A placement and [[variants]]"),
    "no text": (b"\xff\xfe", "order.toml", "byte 0 is no UTF-8", "A placement and [[variants]]"),
    "a number as a change": (TWO.replace("MORE", ", change = 3"), "/variants/1/change", "3 came.", "An object: { … }."),
    "a number as models": (TWO.replace("MORE", ", models = { a = 3 }"), "/variants/1/models/a", "3 came.", "A text."),
    "names alone": ('placement = "home"\nvariants = ["a"]', "/variants/0", '"a" came.', "An object with name,"),
    "a wrong field": (TWO.replace("MORE", ", chnge = {}"), "/variants/1/chnge", 'Nearest: "change"', "change, models,"),
    "a wrong setting": (
        TWO.replace("MORE", ", change = { slate_sise = 6 }"), "/variants/1/change/slate_sise", 'Nearest: "slate_size"',
        "Settings: ",
    ),
    "no such version": (TWO.replace("MORE", ", version = 9"), "/variants/1/version", "Version 9", "Nothing: no"),
    "no such placement": (TWO.replace("MORE", "").replace("home", "hom"), "/placement", '"hom" is not', "One of: home"),
    "one variant": ('placement = "home"\nvariants = [{ name = "a" }]', "/variants", "1 came.", "2 to 16"),
    "a ramp beyond all": (f"{TWO}ramp = [{{ exposed = 5 }}]".replace("MORE", ""), "/ramp/0/exposed", "5.0", "0 to"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one placement and nine items."""
    write_config(tmp_path, HOME)
    with midstream.open(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": "u", "item_id": f"i{n}", "event_id": f"{n}"} for n in range(9)])
    return tmp_path


def test_each_wrong_order_is_told_in_four_parts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where, what came, what would be right, and a page that is about experiments or about the setting."""
    file = folder / "order.toml"
    for content, *parts in WRONG.values():
        assert isinstance(content, str | bytes)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(SystemExit) as ended:
            main(["experiments", "start", "size", str(file), "--folder", str(folder)])
        said = capsys.readouterr().err
        lines = said.splitlines()
        assert ended.value.code == 2
        assert [line.partition(":")[0] for line in lines[:4]] == ["where", "came", "right", "page"]
        for line, part in zip(lines, parts, strict=False):
            assert part in line, said
        assert lines[3].removeprefix("page:").strip() in {
            "midstream docs experiments", "midstream docs configuration"
        }  # fmt: skip


def test_the_list_fits_80_columns(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of 32 characters stand in one line, with all that the list says of their experiment."""
    long = "checkout-with-fewer-and-larger-x"
    names = [{"name": "as-is"}, {"name": "with-fewer-items"}]
    with midstream.open(folder) as shop:
        shop.experiments.start(long, placement="home", variants=names, share=0.3, author="ann")
        shop.experiments.start("b", placement="home", variants=names, share=0.3, author="ann")
        shop.experiments.stop("b", "enough", author="ann")
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["experiments", "list", "--folder", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if long in line]
    assert [part in row for part in ("home", "running", "100%", "20")] == [True] * 4
    assert len(lines) == 6
