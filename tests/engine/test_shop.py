"""The Python API lets go of its folder however it is left."""

import threading
from pathlib import Path

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
