"""Comparison of a sink's table with the state: rows of users whom a rewrite took from the log without the sink.

A rewrite asks each sink that is configured, and takes the ids of erased users from the log. A sink that was not there
cannot read who they were any more, but its table still has their ids. So beside the rows stands the generation of the
log up to which this sink confirmed all rewrites. Where the log is of another one, all ids of the table are read, page
by page, and rows of ids that the state does not know are deleted. It begins again until it has gone through once.

The generations of nodes that share a log are their own, so there the first start of a process compares.
"""

import asyncio

from midstream.engine.sinks.row_writer import RowWriter

CHECKED = "generation"
"""Name of the generation beside the rows."""


class TableCheck:
    """One table, and the generation of the log that it was compared with."""

    def __init__(self, writer: RowWriter, *, is_shared: bool) -> None:
        """Prepare a comparison.

        Args:
            writer: Of the table.
            is_shared: Other nodes have the same log, with generations of their own.
        """
        self._writer = writer
        self._is_shared = is_shared
        self._known: int | None = None
        """Generation that the table agrees with; None = of none that is known."""
        self._said: int | None = None
        """The same, as the table has it."""
        self._confirmed = -1
        """Generation before a rewrite that this sink confirmed."""
        self._cursor = ""
        self._began = -1
        """Generation at the first page."""
        self._foreign = 0

    @property
    def is_due(self) -> bool:
        """Whether the table has to be compared."""
        return self._known != self._writer.generation

    @property
    def was_away(self) -> bool:
        """Whether the log was rewritten, in whatever way, since the table was compared last."""
        return self._said is not None and self._said != self._writer.generation

    async def learn(self) -> None:
        """Ask the table, once.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        if self._known is None and not self._is_shared:
            said = await self._writer.store.position(CHECKED) or ""
            self._known = self._said = int(said) if said.isdecimal() else None

    async def demand(self) -> None:
        """Have the table compared again, by the next process too; durable on return.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        self._known, self._confirmed, self._cursor = None, -1, ""
        await self._writer.store.set_position(CHECKED, "")

    def confirm(self) -> None:
        """Take the next rewrite for one that this sink was asked about."""
        self._confirmed = self._writer.generation

    async def step(self) -> None:
        """Compare one page, and keep the generation after the last one.

        Raises:
            StoreUnavailable: The store does not answer.
            DeclarationChanged: Other features, or another state, came into service meanwhile.
        """
        generation = self._writer.generation
        if self._known is not None and self._was_told(self._known, generation):
            await self._keep(generation)
            return
        cursor, self._cursor = self._cursor, ""  # after a failure from the beginning: the server may be another one
        if not cursor:
            self._began, self._foreign = generation, 0
        page = await self._writer.store.scan(cursor)
        self._foreign += sum(each > self._writer.position for each in page.versions)
        await self._writer.delete_unknown(dict(zip(page.ids, page.versions, strict=True)))
        self._cursor = page.cursor or ""
        if page.cursor is None:
            self._tell_foreign()
            now = self._writer.generation
            if now == self._began or self._was_told(self._began, now):
                await self._keep(now)
        await asyncio.sleep(0)

    def _was_told(self, before: int, now: int) -> bool:
        """Return whether the log is of the one rewrite after a generation, and this sink confirmed that."""
        return now == before + 1 == self._confirmed + 1

    async def _keep(self, generation: int) -> None:
        await self._writer.store.set_position(CHECKED, str(generation))
        self._known = generation

    def _tell_foreign(self) -> None:
        """Name rows that nothing here can replace, in health."""
        of_another = (
            ""
            if self._is_shared or not self._foreign
            else (
                f"the table of the sink {self._writer.options.name} has {self._foreign} rows of later versions than "
                "the log has positions: they are of another log, or of a backup's future, and are neither replaced "
                f"nor deleted. Empty the table, then `midstream sinks backfill {self._writer.options.name}`"
            )
        )
        self._writer.tell("foreign", of_another)
