"""Outputs of a folder without a broker: the shop goes on, and health, routes and receipts know of them."""

import asyncio
import socket

import pytest

from midstream.app.opening import DATA_NAME, config_of, open_running
from midstream.app.output_services import with_outputs
from midstream.core.errors import Invalid, NotFound
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.types import Ask
from midstream.events.schema import build
from midstream.integrations.kafka import producer
from tests.support.libraries import library
from tests.support.patience import wait_on_loop


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with an output to a broker that is not there."""
    library("confluent_kafka")
    monkeypatch.setattr(producer, "WAIT_S_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    text = f'[[outputs]]\nname = "slates"\nservers = "127.0.0.1:{port}"\ntopic = "shop-slates"\nrecords = "served"\n'
    (tmp_path / "midstream.toml").write_text(text, "utf-8")
    return tmp_path


def test_a_shop_goes_on_without_its_broker(shop):
    """Events are taken and slates answered; the output says why it waits, and stops with the shop."""

    async def work():
        running, outputs = with_outputs(open_running(shop, config_of(shop)), DataFolder(shop / DATA_NAME))
        async with running:
            await wait_on_loop(lambda: outputs.view("slates").state == "failing")
            assert "Kafka at 127.0.0.1" in outputs.view("slates").problem
            assert "Kafka at 127.0.0.1" in running.engine.health().reason
            await running.engine.record(build(()))
            await running.engine.recommend(Ask())
            running.engine.refresh_metrics()
            assert b'midstream_output_stopped{output="slates"} 0.0' in running.engine.metrics.text()
            assert running.eraser is not None
            assert running.eraser.outside == ("kafka shop-slates",)
            with pytest.raises(NotFound, match='"slate" is no output'):
                outputs.view("slate")
            with pytest.raises(Invalid, match="A log position from 0 to"):
                await outputs.move("slates", LogPosition(10**6))

    asyncio.run(work())
