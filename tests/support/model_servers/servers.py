"""Fake servers on loopback, each in a thread with an event loop of its own: HTTP by hand, gRPC by the library."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

from tests.support.libraries import library
from tests.support.model_servers.models import Asked, FakeModel, Told, twisted
from tests.support.patience import PATIENCE_S

SLOW_S = 30.0
"""Longer than any test waits."""
DRIBBLE_S = 0.02
OK = 200
SERVICES = {
    "inference.GRPCInferenceService": ("ModelReady", "ModelMetadata", "ModelInfer"),
    "tensorflow.serving.PredictionService": ("Predict",),
    "tensorflow.serving.ModelService": ("GetModelStatus",),
}


class FakeServer:
    """One server; it can be stopped and started again at its address."""

    def __init__(self, model: FakeModel) -> None:
        self.model = model
        self.port = 0
        self.connections = 0
        self.under_way = 0
        self.most_under_way = 0
        self.is_grpc = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stop: Callable[[], Awaitable[None]] | None = None

    @property
    def url(self) -> str:
        return f"{'grpc' if self.is_grpc else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        if not self._thread.is_alive():
            self._thread.start()
        self._run(self._start())

    def stop(self) -> None:
        if self._stop is not None:
            self._run(self._stop())
            self._stop = None

    def end(self) -> None:
        self.stop()
        self._run(self._cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    async def _cancel(self) -> None:
        tasks = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self) -> None:
        raise NotImplementedError

    async def _told(self, asked: Asked) -> Told:
        """Answer after what the mode says."""
        model = self.model
        model.asked.append(asked)
        is_infer = bool(asked.body) and not asked.path.endswith(("/ModelReady", "/GetModelStatus", "/ModelMetadata"))
        if not is_infer:
            return model.told(asked)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if model.mode == "silent":
                await asyncio.sleep(SLOW_S)
            elif model.mode.startswith("slow "):
                await asyncio.sleep(float(model.mode.removeprefix("slow ")))
            return twisted(model.told(asked), model.mode)
        finally:
            self.under_way -= 1


class HttpServer(FakeServer):
    """HTTP 1.1 with connections that are kept."""

    async def _start(self) -> None:
        writers: set[asyncio.StreamWriter] = set()

        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            writers.add(writer)
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    await writer.drain()
            writers.discard(writer)
            writer.close()

        server = await asyncio.start_server(served, "127.0.0.1", self.port, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]

        async def stop() -> None:
            server.close()
            for each in writers:
                each.transport.abort()

        self._stop = stop

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = first.split()
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines if each)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        mode = self.model.mode if body else "right"
        told = await self._told(Asked(method, path, headers, body))
        if mode == "closed":
            return False
        head = [f"HTTP/1.1 {told.status} said", *(f"{name}: {value}" for name, value in told.headers.items())]
        if mode == "without length":
            writer.write("\r\n".join([*head, "connection: close", "", ""]).encode() + told.body)
            return False
        length = len(told.body) + 10 * (mode == "cut")
        writer.write("\r\n".join([*head, f"content-length: {length}", "", ""]).encode())
        if mode == "dribble":
            for byte in told.body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(DRIBBLE_S)
        else:
            writer.write(told.body)
        return mode != "cut"


class GrpcServer(FakeServer):
    """gRPC without generated classes."""

    def __init__(self, model: FakeModel) -> None:
        super().__init__(model)
        self.is_grpc = True

    async def _start(self) -> None:
        aio, grpc = library("grpc.aio"), library("grpc")

        async def answered(path: str, body: bytes, context: Any) -> bytes:
            told = await self._told(Asked("POST", path, dict(context.invocation_metadata() or ()), body))
            if told.status != OK:
                await context.abort(grpc.StatusCode.INTERNAL, told.body.decode())
            return told.body

        def handler(path: str) -> Any:
            async def one(body: bytes, context: Any) -> bytes:
                return await answered(path, body, context)

            return grpc.unary_unary_rpc_method_handler(one)

        handlers = [
            grpc.method_handlers_generic_handler(service, {each: handler(f"/{service}/{each}") for each in methods})
            for service, methods in SERVICES.items()
        ]
        server = aio.server(options=(("grpc.so_reuseport", 0),))
        server.add_generic_rpc_handlers(handlers)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()

        async def stop() -> None:
            await server.stop(grace=0)

        self._stop = stop


@contextmanager
def running(kind: type[FakeServer], model: FakeModel) -> Generator[FakeServer]:
    """Give a server that runs."""
    server = kind(model)
    server.start()
    try:
        yield server
    finally:
        server.end()
