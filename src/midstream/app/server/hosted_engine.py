"""Engine hosted by another web application: started and stopped with it, on its event loop, and an ASGI app to mount.

The thread of the host's event loop owns all state, as that of a server does: an answer needs no other thread, and a
handler of the host that blocks the loop delays answers as it delays the host's own. Requests of web pages and bodies
are held to the ``[server]`` part of the folder's configuration; connections, heads of requests, TLS and signals are
the host's.
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from midstream.app.config.schema import Config
from midstream.app.folder_owner import one_owner
from midstream.app.opening import DATA_NAME, config_of
from midstream.app.server.keys import watch_keys
from midstream.app.server.opened_engine import open_with_groups, opened_engine
from midstream.core.errors import ConfigInvalid, Fault, MidstreamError
from midstream.engine.answer.user_ids import UserIds
from midstream.engine.folder import DataFolder
from midstream.serving.access.audit_trail import AuditTrail
from midstream.serving.access.gate import KeyGate
from midstream.serving.access.measured_app import Measured
from midstream.serving.app import App, asgi
from midstream.serving.http.hosts import host_faults
from midstream.serving.http.mounting import mounted
from midstream.serving.http.problems import RouteUnknown, problem_reply
from midstream.serving.http.responses import ASGI, Message, Receive, Scope, Send, send_reply
from midstream.serving.options import ServerOptions
from midstream.serving.request_origin import ANSWER_HEADERS, RequestOrigin

PAGE = "/docs/tasks/web-frameworks.md"
_HEADERS = tuple((name.encode(), value.encode()) for name, value in ANSWER_HEADERS)


@dataclass(frozen=True, slots=True)
class RouterPart:
    """A request as a router of the host has it."""

    mounted_at: str
    """Start of the path before the engine's part, as the host decoded it."""
    operations: Mapping[str, frozenset[str]]
    """Methods that the router has, by template of a path."""


class EngineNotOpen(MidstreamError):
    """No lifespan has started the engine, or it was stopped."""


class HostedEngine:
    """One data folder in another web application: ``async with`` opens it, and as an ASGI app it answers.

    Served by itself, or where a framework passes the lifespan on, it opens and closes with the server.
    """

    def __init__(self, folder: str | Path, config: Config | None = None, *, checks_origin: bool = True) -> None:
        """Keep what to open; nothing is read before.

        Args:
            folder: Holds ``midstream.toml`` (without one, every default) and ``data``; made if it does not exist.
            config: Instead of the file.
            checks_origin: Refuse requests to other names than those of ``[server]``, and those that a browser sends for
                pages of other sites. False = the host does.
        """
        self._folder = Path(folder)
        self._config = config
        self._checks_origin = checks_origin
        self._stack: AsyncExitStack | None = None
        self._app: App | None = None
        self._guarded: ASGI | None = None

    @property
    def is_open(self) -> bool:
        """Whether it answers."""
        return self._app is not None

    async def __aenter__(self) -> Self:
        """Open the folder and start the engine on the running event loop, which does nothing else meanwhile.

        Raises:
            FolderLocked: Another process has it open, such as another worker of the same web server.
            ConfigInvalid: The configuration cannot be used; every fault is named.
            LogDamaged: The log cannot be trusted; nothing was changed.
            RuntimeError: It is open already.
        """
        if self._stack is not None:
            message = "the engine is open already: one lifespan starts it"
            raise RuntimeError(message)
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._config or config_of(self._folder)
        require_hosted(config.server)
        keys = watch_keys(DataFolder(self._folder / DATA_NAME), identity=config.identity)
        async with AsyncExitStack() as undo:
            with one_owner():
                running, inputs, outputs = open_with_groups(self._folder, config)
            await undo.enter_async_context(running)
            opened = opened_engine(self._folder, running, inputs, outputs)
            app = asgi(opened.engine, opened.accept, config.server, opened.ingest, opened.upkeep)
            trail, engine = AuditTrail(app, opened.engine.record), opened.engine
            engine.listeners.add(keys.listener)
            gate = KeyGate(trail, keys, config.server, UserIds(lambda: engine.fold))
            self._guarded = guarded(gate, config.server) if self._checks_origin else gate
            self._app = app
            self._stack = undo.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop gracefully: acknowledged events are durable, the state is in a snapshot. Close the host's port first."""
        stack, self._stack, self._app, self._guarded = self._stack, None, None, None
        if stack is not None:
            await stack.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request below the path where it is mounted, or take part in the lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await mounted(self._answer, _mounted_at(scope))(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def answer_part(self, part: RouterPart, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that a router of the host let in.

        The host finds a route by the path as it decodes it, the engine by the path as it was sent, in which an id may
        have a slash. An operation that the router does not have is not reached in this way.
        """

        async def answer(found: Scope, receive: Receive, send: Send) -> None:
            if self._app is not None:
                template = self._app.template_of(found)
                if scope["method"] not in part.operations.get(template, frozenset()):
                    came = f'{scope["method"]} "{found["path"][:60]}" is no route of this router.'
                    unknown = RouteUnknown((Fault("path", came, "An operation of the application's document.", PAGE),))
                    await send_reply(scope, send, problem_reply(unknown))
                    return
            await self._answer(found, receive, send)

        await mounted(answer, part.mounted_at)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._guarded
        if app is None:
            right = "Open it with the lifespan of the application: midstream docs tasks/web-frameworks"
            await send_reply(scope, send, problem_reply(EngineNotOpen(f"The engine is not open. {right}.")))
            return

        await app(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        said = "the engine could not be started"
        is_started = False
        try:
            async with self:
                is_started = True
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except MidstreamError as error:
            said = str(error)
            raise
        finally:
            if not is_started:
                await send({"type": "lifespan.startup.failed", "message": said})
        await send({"type": "lifespan.shutdown.complete"})


def guarded(app: Measured, options: ServerOptions) -> ASGI:
    """Return an app behind the gate against web pages, with the headers that keep others from reading answers."""
    gate = RequestOrigin(app, options)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [*message.get("headers", ())]
                names = {name for name, _ in own}
                message = {**message, "headers": [*own, *(each for each in _HEADERS if each[0] not in names)]}
            await send(message)

        await gate(scope, receive, with_headers)

    return answer


def _mounted_at(scope: Scope) -> str:
    """Return the part of the path that belongs to the host: ``root_path``, where the path begins with it."""
    root: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    return root if path == root or path.startswith(f"{root}/") else ""


def require_hosted(options: ServerOptions) -> None:
    """Refuse what only a server of its own can do, and names that are none.

    Raises:
        ConfigInvalid: There are followers, or a name or an origin is none; all faults are named.
    """
    faults = list(host_faults(options, "$.server.allow_hosts", "$.server.allow_origins"))
    if options.followers:
        came = f"{options.followers} came, in another web application, which has one process for the engine."
        faults.append(Fault("$.server.followers", came, "0; or midstream serve, which starts them.", PAGE))
    if faults:
        raise ConfigInvalid(tuple(faults))
