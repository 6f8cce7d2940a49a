"""Request targets with a host: uvicorn's protocol leaves the host of ``GET http://name/path`` out of the scope."""

import asyncio
from functools import partial
from typing import Any, cast

from midstream.serving.http.bounded_protocol import BoundedProtocol

ABSOLUTE_TARGET = "midstream.absolute_target"
"""Field of a scope: the target as it came, where it is no path."""


class TargetNoting(BoundedProtocol):
    """One connection, whose scopes have the targets."""

    def on_headers_complete(self) -> None:
        """Note a target that is more than a path."""
        if not self.url.startswith(b"/"):
            cast("dict[str, Any]", self.scope)[ABSOLUTE_TARGET] = self.url
        super().on_headers_complete()


def noting_targets(protocol: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """Return the protocol of ``bounded_protocol``, of the class that notes targets."""
    made = cast("partial[BoundedProtocol]", protocol)
    return cast("type[asyncio.Protocol]", partial(TargetNoting, *made.args, **made.keywords))
