"""Feature sink: follows the log and writes the rows that its events touch through to an online store.

The log is the outbox: a relay (``engine.outbox.log_relay``) hands over batch after batch, the rows that a batch touched
are read from the state and written, and then the position after the batch is kept beside them. A kill or a failure at
any point repeats a batch, and a repeated row changes nothing. So every row is at least as new as the newest event
before the position, and a sink that caught up has the content of the state.

Rows of before the position come from a *pass*: all events from the beginning of the log to where following began, in
pieces, each row once. It runs beside the following, and begins when a table is new, when its declaration or the state
changed, at an operator's order, and after ``refresh``. Of items it goes through the catalogue instead.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from midstream.core.errors import LogRewritten, MidstreamError, RewriteFailed, StoreUnavailable
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.background_service import BackgroundService
from midstream.engine.lease import OWN, Lease
from midstream.engine.log_readers import FolderLog
from midstream.engine.outbox.log_destination import DeliveredPosition, DestinationUnavailable
from midstream.engine.sinks.log_pieces import EVENTS_MAX, LogPieces, known_texts
from midstream.engine.sinks.row_writer import DeclarationChanged, RowWriter
from midstream.engine.sinks.table_check import TableCheck
from midstream.engine.sinks.touched_rows import merged_into, touched_rows
from midstream.engine.stores.online_store import StoreKind

FOLLOWED, PASSED = "log", "pass"
"""Names of the two positions beside the rows."""
IDLE_S = 0.2
"""Between two looks whether there is a pass to go on with."""
PASS_ITEMS = 5_000
"""Items of one piece of a pass, as many as events."""


class PassPosition(msgspec.Struct, frozen=True):
    """Progress of a pass, as it is stored."""

    declaration: str
    """Of the rows."""
    next: int = 0
    """Events before it, or items, are done."""
    until: int = 0
    """Where it ends: following began here."""
    need: int = 0
    """A row that was written under this version or a later one needs no other."""
    began_ms: int = 0
    """Log time at its begin."""


@dataclass(frozen=True, slots=True)
class SinkView:
    """State of a sink, beside that of its relay."""

    name: str
    scope: str
    columns: Mapping[str, StoreKind]
    half_lives: Mapping[str, tuple[int, ...]]
    rows_written: int
    """Since the start, as ``rows_deleted``."""
    rows_deleted: int
    pass_next: int
    pass_until: int
    """``pass_next`` of so many events or items are done; equal = no pass is under way."""
    is_complete: bool
    """Whether each row of before following began is there, as the declarations and the state in service have it."""


class FeatureSink:
    """A ``LogDestination`` whose deliveries are rows; with a loop of its own for passes."""

    def __init__(
        self,
        writer: RowWriter,
        supervise: Callable[..., BackgroundService],
        open_log: Callable[[], FolderLog],
        monotonic: Callable[[], float],
        *,
        is_shared: bool = False,
    ) -> None:
        """Prepare a sink that is not started.

        Args:
            writer: Reads and writes its rows.
            supervise: ``Engine.supervise``.
            open_log: Opens the log as it is now, on a thread.
            monotonic: Seconds that never go back.
            is_shared: Other nodes have the same log.
        """
        self.writer = writer
        self.check = TableCheck(writer, is_shared=is_shared)
        self.name = writer.options.name
        self.lease: Lease = OWN
        """Right to write; to be set before the start."""
        self._open_log = open_log
        self._monotonic = monotonic
        self._pieces = LogPieces(open_log)
        self._pass: PassPosition | None = None
        """None = the store has to be asked first."""
        self._turn = asyncio.Lock()
        """Around changes of the declaration and of the pass: both loops make them."""
        self._delivered_s = 0.0
        self._are_texts_known = False
        self.passing = supervise(f"sink_{self.name}_pass", self._pass_round, 0.0, first_s=0.0)

    def view(self) -> SinkView:
        """Return how it stands."""
        counts, done = self.writer.counts, self._pass or PassPosition("")
        columns = self.writer.known_columns
        return SinkView(
            name=self.name,
            scope=self.writer.options.scope,
            columns={} if columns is None else columns.kinds,
            half_lives={} if columns is None else columns.half_lives,
            rows_written=counts.written,
            rows_deleted=counts.deleted,
            pass_next=done.next,
            pass_until=done.until,
            is_complete=done.next >= done.until and self.writer.is_of(done.declaration) and not self.check.is_due,
        )

    async def resume(self) -> DeliveredPosition | None:
        """Return the position that the store has; see ``LogDestination``.

        Raises:
            StoreUnavailable: The store does not answer.
            SinkStopped: The features in service are others than the sink names.
        """
        async with self._turn:
            store = await self.writer.reopen()
            said = await store.position(FOLLOWED)
            await self.check.learn()
            await self._learn_texts()
            if said is None:
                return None
            try:
                found = DeliveredPosition.of_text(said)
            except ValueError as error:
                message = f"the table of the sink {self.name} has the position {said!r}, which is none"
                raise DestinationUnavailable(message) from error
            if self._pass is None:
                await self._find_pass(found.log_position)
            return found

    async def deliver(self, first: LogPosition, batch: EventBatch, upto: DeliveredPosition) -> None:
        """Write the rows that events touched, then their position; a position alone begins a pass up to it.

        Raises:
            StoreUnavailable: The store does not answer; some rows may be written.
        """
        if not len(batch):
            async with self._turn:
                self.writer.forget_written()
                await self.check.demand()
                await self._begin_pass(upto.log_position)
        else:
            if len(batch) < EVENTS_MAX:  # else it lags
                await asyncio.sleep(self._delivered_s + self.writer.options.every_s - self._monotonic())
            self._delivered_s = self._monotonic()
            await self._write(first, batch, upto.log_position)
        await self.writer.store.set_position(FOLLOWED, upto.text)

    async def close(self) -> None:
        """Release the store."""
        await self.writer.close()

    async def forget(self, ids: Sequence[str]) -> int:
        """Delete the rows of erased users, before the log is rewritten without them; return their number.

        A row that is not deleted then never is, as no file has its id any more.

        Raises:
            RewriteFailed: The store could not do it, and the log stays as it is.
        """
        if self.writer.options.scope != "user":
            self.check.confirm()
            return 0
        try:
            deleted = await self._forget(ids)
        except MidstreamError as error:
            message = (
                f"the sink {self.name} could not delete the rows of erased users ({error}); the log keeps their ids "
                "until it can, or until the sink is taken out of the configuration"
            )
            raise RewriteFailed(message) from error
        self.check.confirm()
        return deleted

    async def _forget(self, ids: Sequence[str]) -> int:
        with suppress(StoreUnavailable):
            return await self.writer.delete_unknown(dict.fromkeys(ids, -1))
        await self.writer.reopen()  # it may not have been open yet
        return await self.writer.delete_unknown(dict.fromkeys(ids, -1))

    async def _write(self, first: LogPosition, batch: EventBatch, need: int) -> None:
        """Write the rows that events touched, anew when another declaration came into service meanwhile."""
        key = self.writer.id_key
        touched = await asyncio.to_thread(touched_rows, first, batch, key)
        while True:
            try:
                return await self.writer.write(touched, need)
            except DeclarationChanged:
                async with self._turn:
                    await self._declare()

    async def _find_pass(self, followed: LogPosition) -> None:
        """Go on with the pass that the store knows of.

        Begin one where its rows are of another declaration, or of a log that was rewritten meanwhile: a rewrite may
        also have taken back an import.
        """
        said = await self.writer.store.position(PASSED)
        found = PassPosition("")
        with suppress(msgspec.MsgspecError):  # of another release, or nobody's: then a pass writes all rows again
            found = msgspec.json.decode(said or b"{}", type=PassPosition)
        if found.declaration == self.writer.declaration() and not self.check.was_away:
            self._pass = found
        else:
            self.writer.begin_anew(max(self.writer.position, followed))
            await self._begin_pass(self.writer.position)

    async def _declare(self) -> None:
        """Take up another declaration: its columns, and a pass over all rows."""
        declaration = self.writer.declaration()
        if self._pass is not None and self._pass.declaration == declaration:
            return
        await self.writer.reopen()
        self.writer.begin_anew(self.writer.position)
        await self._begin_pass(self.writer.position)

    async def _begin_pass(self, until: LogPosition) -> None:
        """Have all rows of before a position read and written once."""
        fold = self.writer.fold
        end = fold.vocabulary.item_count if self.writer.options.scope == "item" else until
        began = PassPosition(self.writer.declaration(), 0, int(end), int(fold.log_position), fold.log_time_ms)
        await self._keep_pass(began)

    async def _keep_pass(self, position: PassPosition) -> None:
        await self.writer.store.set_position(PASSED, msgspec.json.encode(position).decode())
        self._pass = position

    async def _pass_round(self) -> None:
        """Go on with a pass, or wait until there is one."""
        if not self.lease.is_held:
            self._pass = None  # the node that has the lease goes on with it
        position = self._pass
        if position is None:
            await asyncio.sleep(IDLE_S)
            return
        if self.writer.declaration() != position.declaration:
            async with self._turn:
                await self._declare()
            return
        if position.next >= position.until and not self.check.is_due:
            await asyncio.sleep(IDLE_S)
            await self._refresh()
            return
        try:
            if self.check.is_due:
                await self.check.step()
                return
            following = await self._passed(position)
        except (DeclarationChanged, LogRewritten):  # the next round sees to it
            self._pieces.forget()
            return
        async with self._turn:
            if self._pass is position:  # else another one was begun meanwhile
                await self._keep_pass(msgspec.structs.replace(position, next=following))

    async def _passed(self, position: PassPosition) -> int:
        """Write the rows of one piece of a pass; return where the next one begins."""
        if self.writer.options.scope == "item":
            following = min(position.next + PASS_ITEMS, position.until)
            await self.writer.write_items(range(position.next, following), position.need)
            return following
        piece = await self._pieces.next(LogPosition(position.next), LogPosition(position.until))
        if piece is None:
            return position.until
        first, batch = piece
        touched = await asyncio.to_thread(touched_rows, first, batch, self.writer.id_key)
        await self.writer.write(touched, position.need)
        return first + len(batch)

    async def _refresh(self) -> None:
        """Begin a pass when the last one began long enough ago."""
        position, refresh_ms = self._pass, self.writer.options.refresh_ms
        if position is None or not refresh_ms or self.writer.fold.log_time_ms - position.began_ms < refresh_ms:
            return
        async with self._turn:
            if self._pass is position:
                await self._begin_pass(self.writer.position)

    async def _learn_texts(self) -> None:
        """Read the ids of users that others were merged into, once; the state has no texts of users."""
        if self._are_texts_known or self.writer.options.scope != "user":
            return
        vocabulary = self.writer.fold.vocabulary
        if len(vocabulary.aliases) or vocabulary.erasures.pending:
            upto, key = self.writer.position, self.writer.id_key
            found = await asyncio.to_thread(lambda: known_texts(self._open_log(), upto, merged_into, key))
            self.writer.texts.update(found)
        self._are_texts_known = True
