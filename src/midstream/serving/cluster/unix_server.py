"""Server of an app on a unix socket, beside that of the port: for requests between processes."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import uvicorn
from uvicorn.server import ServerState

from midstream.serving.cluster.unix_socket import BACKLOG, leave, listen_at
from midstream.serving.http.connections import bounded_protocol
from midstream.serving.http.read_limits import read_limits
from midstream.serving.http.responses import ASGI
from midstream.serving.options import ServerOptions

NEVER_S = 10 * 365 * 86_400
"""Kept connections end with a process, so that none is closed just when it is used again."""
ADDED_BYTES = 1_024
ADDED_LINES = 3
"""Headers that a proxying process may add: framing of the body, a host, and the caller."""
STOP_S_MAX = 5.0
"""How long answers that are under way may take at the end."""


@asynccontextmanager
async def served_at(path: Path, app: ASGI, options: ServerOptions) -> AsyncGenerator[None]:
    """Serve ``app`` at a unix socket until the block ends; then answers under way are waited for.

    Raises:
        OSError: The socket cannot be made.
    """
    limits = read_limits(options)
    longer = replace(
        limits,
        head_bytes_max=limits.head_bytes_max + ADDED_BYTES,
        head_lines_max=limits.head_lines_max + ADDED_LINES,
    )
    config = uvicorn.Config(
        app,
        http=bounded_protocol(longer, app),
        ws="none",
        interface="asgi3",  # as at the port
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=NEVER_S,
    )
    config.load()
    state = ServerState()

    make = cast("Callable[..., asyncio.Protocol]", config.http_protocol_class)

    def protocol() -> asyncio.Protocol:
        return make(config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_unix_server(protocol, sock=listen_at(path), backlog=BACKLOG)
    try:
        yield
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(tuple(state.tasks), timeout=STOP_S_MAX)
        leave(path)
