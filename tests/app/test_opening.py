"""What keeps a data folder from being opened is said in four parts, and leaves it as it was."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from midstream.app.config.schema import Config
from midstream.app.opening import open_running, open_shop
from midstream.core.errors import ConfigInvalid
from midstream.engine.snapshots import base_state


def test_a_state_that_cannot_be_reserved_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may be allowed less than the machine has; the folder can be opened again after."""

    def no_room(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(base_state, "Fold", no_room)
        for _ in range(2):
            with pytest.raises(ConfigInvalid, match=r"\$\.limits\n.* MiB at these maxima could not be reserved"):
                open_shop(tmp_path, Config())
    with open_shop(tmp_path, Config()) as shop:
        assert shop is not None


def test_a_scrape_has_the_machine_of_the_folder(tmp_path: Path) -> None:
    """Memory and disk are read when metrics are asked for, not before."""
    running = open_running(tmp_path, Config())
    metrics = running.engine.metrics
    assert "\nmidstream_disk_free_bytes" not in metrics.text().decode()
    running.engine.refresh_metrics()
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }
    assert 0 < found["midstream_disk_free_bytes"] < found["midstream_disk_bytes"]
    assert 0 < found["midstream_resident_memory_bytes"] < found["midstream_memory_limit_bytes"]
    running.abandon()
