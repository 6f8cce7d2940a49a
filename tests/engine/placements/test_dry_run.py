"""Dry run of placements with components of one's own that read a model which has no version in service."""

from pathlib import Path

import pytest

import midstream
from midstream.core.errors import ConfigInvalid
from tests.support.fakes.models import CONFIG, write_folder

UNNAMED = """

class Unnamed(Near, frozen=True):
    @property
    def model_names(self) -> tuple[str, ...]:
        return ()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose components may be set, with a model without a version."""
    write_folder(tmp_path)
    with (tmp_path / "components.py").open("a") as file:
        file.write(UNNAMED)
    limits, _, placement = CONFIG.partition("[[placements]]")
    names = '[components]\nnear = "components:Near"\nunnamed = "components:Unnamed"\n\n'
    (tmp_path / "midstream.toml").write_text(f"{limits}{names}[[placements]]{placement}")
    return tmp_path


def test_a_model_that_is_named_and_not_in_service_is_no_fault(folder: Path) -> None:
    """The placement answers without it, as it does once a version is withdrawn."""
    with midstream.open(folder) as shop:
        shop.record([{"type": "view", "user_id": "ann", "item_id": "item-1"}])
        told = {"deadline": "10s", "sources": [{"kind": "custom", "name": "near"}, {"kind": "popular"}]}
        shop.set_placement("home", told, author="ann")
        assert shop.placement("home").versions[-1].author == "ann"
        assert [each.id for each in shop.recommend("home", user_id="bob").items] == ["item-1"]


def test_a_model_that_is_read_and_not_named_is_a_fault(folder: Path) -> None:
    """It never gets one, whatever is in service; nothing was changed."""
    with midstream.open(folder) as shop:
        end = shop.running.engine.log.end
        told = {"deadline": "10s", "sources": [{"kind": "custom", "name": "unnamed"}]}
        with pytest.raises(ConfigInvalid) as refused:
            shop.set_placement("home", told, author="ann")
        (fault,) = refused.value.faults
        assert fault.came == "near failed when it was tried: ModelUnavailable: near."
        assert shop.running.engine.log.end == end
