"""Indexes of the vectors that sources search by a graph, built and kept up in the background of a process that answers.

Each state has indexes of its own: after a swap, such as of a rebuild, they are built anew, and until then sources scan.
The work is done on a daemon thread that rests half of the time, and no end of the process waits for it.
"""

from collections.abc import Iterator

from midstream.engine.daemon_thread import DaemonThread
from midstream.engine.engine import Engine
from midstream.models.vector_index import VectorIndex
from midstream.retrieval.nearest import Nearest
from midstream.state.attributes.vectors import Vectors

PAUSE_S = 0.2
"""Between two looks at what changed: until then a search scores changed vectors one by one."""


class VectorIndexing:
    """An ``EngineService``."""

    def __init__(self, engine: Engine) -> None:
        """Prepare it; an error, such as that usearch is not installed, goes to health, and sources go on to scan."""
        self._engine = engine
        self._thread = DaemonThread("midstream-vector-indexes")
        self._service = engine.supervise("vector_indexes", self._round, PAUSE_S, first_s=0.0)

    def start(self) -> None:
        """Begin on the running event loop."""
        self._service.start()

    async def stop(self) -> None:
        """End it; an index that is being built is given up."""
        for column in self._columns():
            if isinstance(column.index, VectorIndex):
                column.index.stop()
        await self._service.stop()
        self._thread.end()

    def _columns(self) -> Iterator[Vectors]:
        """Yield the vectors of the state in service that a source searches by a graph, each once."""
        plans, items = self._engine.plans.values(), self._engine.fold.items
        sources = [each.options for plan in plans for each in plan.sources if isinstance(each, Nearest)]
        for name in sorted({each.attribute for each in sources if each.search == "usearch"}):
            yield items.all_vectors(name)

    async def _round(self) -> None:
        """Bring each index up to its vectors."""
        for column in tuple(self._columns()):
            index = column.index
            if not isinstance(index, VectorIndex):
                index = column.index = VectorIndex(column)
            await self._thread.call(index.catch_up)
