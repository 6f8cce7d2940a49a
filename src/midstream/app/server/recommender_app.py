"""ASGI app of an open shop, for the event loop of the shop's own thread."""

from typing import TYPE_CHECKING, cast

from midstream.app.server.hosted_engine import guarded, require_hosted
from midstream.app.server.opened_engine import opened_engine
from midstream.engine.recommender import Recommender
from midstream.serving.app import asgi
from midstream.serving.http.responses import ASGI

if TYPE_CHECKING:
    from midstream.app.config.schema import Config


class RecommenderApp:
    """Makes the app when the first request comes: the shop may be opened after it was handed over."""

    def __init__(self, recommender: Recommender, *, checks_origin: bool) -> None:
        """Keep the shop.

        Raises:
            ConfigInvalid: The folder's configuration has followers, or names that are none.
        """
        self._recommender = recommender
        self._checks_origin = checks_origin
        self._options = cast("Config", recommender.running.config).server
        self._app: ASGI | None = None
        require_hosted(self._options)

    async def made(self) -> ASGI:
        """Return the app. Called on the event loop of the shop, so that one is made."""
        if self._app is None:
            opened = opened_engine(None, self._recommender.running)
            app = asgi(opened.engine, opened.accept, self._options, opened.ingest, opened.upkeep)
            self._app = guarded(app, self._options) if self._checks_origin else app
        return self._app
