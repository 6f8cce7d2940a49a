"""Files of known answers: refused where the configuration is read, and before a fit, not after it."""

import json
from pathlib import Path

import pytest

from midstream.app.golden_files import golden_path, require_golden
from midstream.app.opening import config_of, open_shop
from midstream.cli.operate.check import check_folder
from midstream.core.errors import ConfigInvalid

TOML = """
[[models]]
name = "taste"
kind = "ease"

[[trainings]]
model = "taste"
every = "6h"
gates = {{ golden = "{golden}" }}
"""
GOLDEN = json.dumps({"histories": [{"history": ["a"], "has": ["b"]}]})


def shop(folder: Path, golden: str = "taste.json") -> Path:
    """Return a shop with a training that names a file."""
    inner = folder / "shop"
    inner.mkdir()
    (inner / "midstream.toml").write_text(TOML.format(golden=golden))
    (inner / "taste.json").write_text(GOLDEN)
    return inner


def test_a_file_that_is_right_is_read(tmp_path: Path) -> None:
    """By the check and at the start; links that stay in the folder are followed."""
    folder = shop(tmp_path, "link.json")
    (folder / "link.json").symlink_to("taste.json")
    check_folder(folder)
    with open_shop(folder):
        pass
    assert golden_path(config_of(folder).trainings[0], folder) == (folder / "taste.json").resolve()


@pytest.mark.parametrize(
    "content, came", [(None, "It cannot be read"), ("{}", "It has 0 questions."), ("[]", "Expected `object`")]
)
def test_a_file_that_cannot_be_used_is_a_fault_of_the_configuration(
    tmp_path: Path, content: str | None, came: str
) -> None:
    """Before the folder is opened; the setting is named."""
    folder = shop(tmp_path)
    if content is None:
        (folder / "taste.json").unlink()
    else:
        (folder / "taste.json").write_text(content)
    for use in (check_folder, open_shop, lambda where: require_golden(config_of(where), where)):
        with pytest.raises(ConfigInvalid) as raised:
            use(folder)
        (fault,) = raised.value.faults
        assert (fault.where, came in fault.came) == ("midstream.toml: $.trainings[0].gates.golden", True), fault.came


@pytest.mark.parametrize("golden", ["../out.json", "/etc/hostname", "link.json", "taste.json/../../out.json"])
def test_a_path_out_of_the_folder_is_refused_and_not_read(tmp_path: Path, golden: str) -> None:
    """Also through a link, and where the file would be right."""
    folder = shop(tmp_path, golden)
    (tmp_path / "out.json").write_text(GOLDEN)
    (folder / "link.json").symlink_to("../out.json")
    with pytest.raises(ConfigInvalid) as raised:
        check_folder(folder)
    (fault,) = raised.value.faults
    assert "leads out of the folder" in fault.came
