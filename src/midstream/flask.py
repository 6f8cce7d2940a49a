"""Flask: the routes of an open shop in an application, with the engine on a thread of its own.

One process has the folder open: a web server with one worker and several threads. Workers of their own call
``midstream serve`` instead (docs/tasks/web-frameworks.md).
"""

from typing import Any

from midstream.app.server.recommender_app import RecommenderApp
from midstream.engine.recommender import Recommender
from midstream.integrations.flask import blueprint_of
from midstream.serving.http.mounting import mounted

__all__ = ["blueprint"]


def blueprint(recommender: Recommender, *, name: str = "midstream", checks_origin: bool = True) -> Any:  # noqa: ANN401  of a library that is not there to be checked against
    """Return a Flask blueprint with the routes of docs/http.md, to be registered with a prefix and auth of your own.

    Bodies, tokens, request ids and errors are those of a server. ``before_request`` of the blueprint runs before all of
    them. The shop has to be open when a request comes, not before.

    Args:
        recommender: Of ``midstream.open``.
        name: Of the blueprint.
        checks_origin: As in ``midstream.asgi``.

    Raises:
        ExtraMissing: Flask is not installed.
    """
    app = RecommenderApp(recommender, checks_origin=checks_origin)
    return blueprint_of(name, recommender, app.made, mounted)
