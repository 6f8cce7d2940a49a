"""Dry run of placements with components of one's own that read a model which has no version in service."""

from pathlib import Path

import pytest

import midstream
from midstream.app.operate.model_registry import registry_of
from midstream.core.errors import ConfigInvalid
from midstream.engine.instance import Instance
from midstream.engine.placements.control_changes import Said
from tests.support.fakes.models import CONFIG, publish_chain, run_folder, write_folder

UNNAMED = """

class Unnamed(Near, frozen=True):
    @property
    def model_names(self) -> tuple[str, ...]:
        return ()


class Other(Near, frozen=True):
    def retrieve(self, moment: Moment) -> Proposal:
        moment.models.get(self.model, dict)
        return Proposal(np.empty(0, np.int32), np.empty(0, np.float32))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose components may be set, with a model without a version."""
    write_folder(tmp_path)
    with (tmp_path / "components.py").open("a") as file:
        file.write(UNNAMED)
    limits, _, placement = CONFIG.partition("[[placements]]")
    names = '[components]\nnear = "components:Near"\nunnamed = "components:Unnamed"\nother = "components:Other"\n\n'
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


def test_a_model_in_service_that_is_read_as_another_class_is_a_fault(folder: Path) -> None:
    """No version of it would ever be read; without a version in service that is not known yet."""
    told = {"deadline": "10s", "sources": [{"kind": "custom", "name": "other"}, {"kind": "popular"}]}
    version = publish_chain(registry_of(folder), 1)

    async def work(running: Instance) -> None:
        assert running.placing is not None
        await running.champions.promote("near", version)
        end = running.engine.log.end
        with pytest.raises(ConfigInvalid) as refused:
            await running.placing.put("home", told, Said("ann"))
        (fault,) = refused.value.faults
        assert fault.came == "near failed when it was tried: ModelUnavailable: near."
        assert running.engine.log.end == end

    run_folder(folder, work)
