"""The Python API lets go of its folder however it is left."""

import threading
from pathlib import Path

import pytest

from midstream.app.running import open_shop
from midstream.testing.rig import SMALL


def test_a_shop_that_was_never_entered_can_be_closed(tmp_path: Path) -> None:
    """Closing returns, a second time too, and the folder can be opened again."""
    shop = open_shop(tmp_path, SMALL)

    def close() -> None:
        shop.close()
        shop.close()

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    with open_shop(tmp_path, SMALL) as again:
        assert again.recommend().items == ()


def test_outside_of_its_block_it_says_so(tmp_path):
    """Before and after the with block a call fails at once; it does not wait for a thread that does not run."""
    shop = open_shop(tmp_path, SMALL)
    for _ in range(2):
        for call in (shop.recommend, lambda: shop.record([]), lambda: shop.item("a")):
            with pytest.raises(RuntimeError, match="with block"):
                call()
        shop.close()


def test_a_single_event_needs_no_list(tmp_path):
    """As in the body of a request."""
    with open_shop(tmp_path, SMALL) as shop:
        assert shop.record({"type": "view", "user_id": "ann", "item_id": "a"}).log_position == 1
