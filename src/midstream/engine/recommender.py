"""Python API without HTTP: the same engine, on an event loop in a thread of its own."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack, cast

import msgspec
import numpy as np

from midstream.core.answers.events import RetractionAnswer
from midstream.core.answers.placements import PlacementDetail, PlacementView
from midstream.core.errors import Fault, MidstreamError, RequestInvalid
from midstream.core.types import LogPosition
from midstream.engine.answer_tables import feature_rows, ids_of, joined, parts_of, slate_rows
from midstream.engine.experiments.calls import ExperimentCalls
from midstream.engine.ingest.admitted_batch import AdmittedBatch, Parts
from midstream.engine.instance import Instance
from midstream.engine.placements.control_changes import Said
from midstream.engine.placements.views import Preview
from midstream.engine.requests.faults import NameUnknown
from midstream.engine.requests.keywords import FeatureRequest, ManyRequest, RankRequest, Request, SharedRequest
from midstream.engine.requests.python_values import id_of, read_request, slots_of
from midstream.engine.requests.schema import (
    FEATURE_ITEMS_MAX,
    USERS_MAX,
    BatchBody,
    FeatureAsk,
    PageQuestion,
    RankQuestion,
    RecommendationQuestion,
)
from midstream.engine.trainings.views import training_history
from midstream.engine.types import Answer, ErasureDue, FeatureRead, PageAnswer, Recorded
from midstream.events.arrow.c_stream import DataFrameLike
from midstream.events.faults import shown
from midstream.events.json.decode import decode_objects, parts_of_objects
from midstream.events.wire import Accept
from midstream.ranking.plan import SIMILAR
from midstream.training.decisions import TrainingDecision

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
_NOT_OPEN = "the shop is not open: use it inside a with block"
END_S_MAX = 10.0
"""Time for running tasks to end when a shop is closed: a killed child is gone in a moment."""


class Recommender:
    """One open data folder for programs that embed the engine. Use it in a ``with`` block.

    Every method waits for its answer; several threads may call at once.
    """

    def __init__(self, running: Instance, accept: Callable[[], Accept]) -> None:
        """Serve from ``running``; ``accept`` returns the current settings of decoding."""
        self.running = running
        self._accept = accept
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="midstream", daemon=True)
        self._turn = threading.Lock()
        """One start or stop at a time."""
        self._lock = threading.Lock()
        self._is_closed = False
        """No call begins any more; guarded by the lock."""
        self._owner = os.getpid()
        """A process that is forked from it has no thread of the engine."""

    def __enter__(self) -> Self:
        """Start the engine; if that fails, let go of the folder."""
        self._require_owner()
        with self._turn:
            self._require_elsewhere()
            if self._is_closed:
                message = "the shop was closed, and is not opened again: make another with midstream.open"
                raise RuntimeError(message)
            self._thread.start()
            with ExitStack() as undo:
                undo.callback(self._end)
                self._wait(self.running.start)
                undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop gracefully: recorded events are durable, the state is in a snapshot."""
        self.close()

    def close(self) -> None:
        """Stop gracefully; a second call waits for the first, and does nothing after it, as in a forked process.

        Calls of other threads that are under way have their answers, or end with a ``RuntimeError``. A call that was
        interrupted can be made again.

        Raises:
            RuntimeError: A component of this shop calls it, which would wait for itself.
        """
        self._require_elsewhere()
        if os.getpid() != self._owner:
            return  # all of it is the owner's, also the descriptors of its loop
        with self._turn:
            if self._loop.is_closed():
                return
            with self._lock:
                self._is_closed = True
            try:
                if self._thread.is_alive():  # else it was never entered, so nothing was started
                    self._submit(self.running.stop).result()
            finally:
                self._end()

    def _end(self) -> None:
        """End all that runs, the thread and its loop, and let go of the folder."""
        with self._lock:
            self._is_closed = True
        try:
            if self._thread.is_alive():
                # Calls that began before are tasks when this runs: they were handed over before, and none comes after.
                self._submit(_cancel_others).result()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
            self._loop.close()
        finally:
            self.running.engine.log.close()

    def record(self, events: Mapping[str, object] | Sequence[Mapping[str, object]] | DataFrameLike) -> Recorded:
        """Record an event or several, of the same form as ``POST /v1/events``; durable and applied on return.

        Args:
            events: A dict, a list of dicts, or a table of any length with the columns of docs/events.md: of pyarrow, or
                a frame of pandas or Polars. A table is recorded in parts, so a failure of the log half way (a full
                disk) leaves the first ones recorded.

        Raises:
            RequestInvalid: An event is invalid; every fault is named and kept with the dead letters, and nothing was
                recorded.
            TooLarge: It exceeds the limit of one commit; nothing was recorded.
            AppendFailed: The log could not be made durable.
            CommitTooSlow: It was not durable in time, ``commit_wait_max`` below ``[server]``; it may be later.
            Overloaded: Too many events wait; the parts of a table wait for room as long as a commit may take.
        """
        if isinstance(events, DataFrameLike):
            return self._record_table(events)
        listed = _listed(events)
        admitted = self.running.ingest.admit(
            decode_objects(listed, self._accept()), Parts(lambda: parts_of_objects(listed))
        )
        return self._recorded((admitted,))

    def _record_table(self, frame: DataFrameLike) -> Recorded:
        from midstream.events.dataframe_input import batches_of  # Arrow takes 0.2 s and 40 MB where it is used
        from midstream.events.pieces import PIECE_LIMITS, table_piece

        accept = msgspec.structs.replace(self._accept(), limits=PIECE_LIMITS)
        batches = batches_of(frame, accept)
        pieces = [table_piece(batch, accept, first) for first, batch in batches]
        return self._recorded([self.running.ingest.admit(piece.decoded, piece.part) for piece in pieces])

    def _recorded(self, batches: Sequence[AdmittedBatch]) -> Recorded:
        """Record all batches in their order, and return the outcome of their rows end to end."""
        settled = self._wait(lambda: self.running.ingest.record_all(batches))
        if not settled:
            return Recorded(LogPosition(0), np.empty(0, np.uint8))
        starts = np.cumsum([0, *(len(each.recorded.outcome) for each in settled)], dtype=np.int32)
        erased = [each.recorded.erased + start for each, start in zip(settled, starts[:-1], strict=True)]
        return Recorded(
            settled[-1].recorded.log_position,
            np.concatenate([each.recorded.outcome for each in settled]),
            np.concatenate(erased),
            tuple(rejected.fault for each in settled for rejected in each.admitted.rejected),
        )

    def recommend(self, placement: str | None = None, **request: Unpack[Request]) -> Answer:
        """Answer with a slate from a state that has everything recorded before.

        Args:
            placement: None = ``default``; with a ``cursor`` the placement of the slate that it continues.
            request: Fields of ``Ask``.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: A field has the wrong type, or the filter, the context or the size cannot be used.
        """
        asked = read_request(RecommendationQuestion, {} if placement is None else {"placement": placement}, request)
        ask = asked.ask(asked.placement or ("" if asked.continues else "default"))
        return self._wait(lambda: self.running.engine.recommend(ask))

    def rank(self, items: Sequence[str], placement: str | None = "default", **request: Unpack[RankRequest]) -> Answer:
        """Rank up to 1,000 items of the caller; those that may not be served are named in ``removed``.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: A field has the wrong type, an item is repeated, or the filter or context cannot be used.
        """
        name = "default" if placement is None else placement
        ask = read_request(RankQuestion, {"items": items, "placement": name}, request).ask(name)
        return self._wait(lambda: self.running.engine.recommend(ask))

    def page(self, placements: Sequence[str | Mapping[str, object]], **request: Unpack[SharedRequest]) -> PageAnswer:
        """Answer with a slate for each of up to 16 placements, by falling priority, no item in two of them.

        Args:
            placements: Names, or dicts of ``placement`` and the slate's own ``n``, ``filter``, ``exclude`` and
                ``fields``.
            request: Common fields of all slates.

        Returns:
            The slates in the same order; an error in the place of one that could not be made.

        Raises:
            MidstreamError: No slate can be made.
            RequestInvalid: A field has the wrong type.
        """
        asks = read_request(PageQuestion, {"placements": slots_of(placements)}, request).asks()
        return self._wait(lambda: self.running.engine.page(asks))

    def recommend_many(
        self, users: Sequence[str], placement: str | None = "default", **request: Unpack[ManyRequest]
    ) -> tuple[Answer | MidstreamError, ...]:
        """Answer the same request for up to 100 users, such as for a newsletter, each with a slate of its own.

        Returns:
            The answers in the order of the users; an error in the place of one that could not be given.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: A field has the wrong type, or the filter, the context or the size cannot be used.
        """
        name = "default" if placement is None else placement
        asks = read_request(BatchBody, {"users": users, "placement": name}, request).asks(name)
        return self._wait(lambda: self.running.engine.recommend_many(asks))

    def recommend_table(
        self, users: object, placement: str | None = "default", **request: Unpack[ManyRequest]
    ) -> "pa.Table":
        """Answer as ``recommend_many`` does, for any number of users up to a million, with one Arrow table.

        ``.to_pandas()`` makes a frame of it, ``polars.from_arrow`` one of Polars.

        Args:
            users: Ids: a list, an Arrow column, or a column of pandas or Polars. They are answered by turns of 100, so
                later ones may see later events.
            placement: As there.
            request: As there.

        Returns:
            A row for each item, in the order of users and positions: ``user_id`` string, ``position`` int32,
            ``item_id`` string, ``score`` float32, ``request_id``, ``placement``, ``tier``, ``log_position`` (of the
            state) and ``error`` string, and ``field.NAME`` for each requested attribute: float64, bool, string, or a
            list of strings or float32, as its kind is. A user without any item has one row with position −1, score NaN
            and null as the item; ``error`` says why no slate could be made.

        Raises:
            NotFound: As ``recommend_many``, and so with what follows.
            RequestInvalid: A field or a user is no such thing, or there are too many.
        """
        kinds = self._accept().attributes
        fields = request.get("fields", ())
        none = slate_rows((), (), fields, kinds)
        parts = [
            slate_rows(part, self.recommend_many(part, placement, **request), fields, kinds)
            for part in parts_of(ids_of(users, "users"), USERS_MAX)
        ]
        return joined(parts or [none])

    def features_table(self, items: object, **request: Unpack[FeatureRequest]) -> "pa.Table":
        """Return what ``features`` returns as an Arrow table, for any number of items up to a million.

        Args:
            items: Ids: a list, an Arrow column, or a column of pandas or Polars. They are read by turns of 1,000.
            request: As in ``features``.

        Returns:
            A row for each item in their order: ``item_id`` string, and a float32 column for each column of the
            features, NaN = missing.

        Raises:
            RequestInvalid: As ``features``.
        """
        listed = ids_of(items, "items")
        parts = [feature_rows(self.features(part, **request)) for part in parts_of(listed, FEATURE_ITEMS_MAX)]
        return joined(parts or [feature_rows(self.features((), **request))])

    def similar(self, item_id: str, **request: Unpack[Request]) -> Answer:
        """Answer with items like one item, which has seen everything recorded before.

        Raises:
            ItemUnknown: Nothing is known of the item.
            RequestInvalid: A field has the wrong type, or the filter, the context or the size cannot be used.
        """
        asked = read_request(RecommendationQuestion, {}, request)
        if asked.placement is not None:
            raise NameUnknown("/placement", "field of this request", "placement", Request.__annotations__)
        ask = msgspec.structs.replace(asked.ask(SIMILAR), about=id_of("item_id", item_id))
        return self._wait(lambda: self.running.engine.recommend(ask))

    def features(self, items: Sequence[str], **request: Unpack[FeatureRequest]) -> FeatureRead:
        """Return feature values of items for a user and a session: ``names``, and ``values`` (items, names), float32.

        The state has everything recorded before; NaN = missing.

        Raises:
            RequestInvalid: A field has the wrong type, or a feature is not declared.
        """
        ask = read_request(FeatureAsk, {"items": items}, request)
        return self._wait(lambda: self.running.engine.read_features(ask))

    def item(self, item_id: str) -> Mapping[str, object] | None:
        """Return the state of an item, None = unknown.

        Raises:
            RequestInvalid: It is no text.
        """
        asked = id_of("item_id", item_id)
        return self._call(lambda: self.running.engine.item(asked))

    def user(self, user_id: str) -> Mapping[str, object] | None:
        """Return the state of a user, None = unknown.

        Raises:
            RequestInvalid: It is no text.
        """
        asked = id_of("user_id", user_id)
        return self._call(lambda: self.running.engine.user(asked))

    def erase(self, user_id: str) -> ErasureDue:
        """Erase a user, under every id that was merged into this one; the answer has the remaining steps.

        Raises:
            RequestInvalid: It is no text, or too long to be an id.
            AppendFailed: The log could not be made durable.
            ErasuresFull: Too many erasures wait for the log to be rewritten.
        """
        asked = id_of("user_id", user_id)
        return self._wait(lambda: self.running.engine.erase(asked))

    def retract(self, event_id: str, user_id: str | None = None) -> RetractionAnswer:
        """Take the act with an event id back; with a user it has to be one of that user.

        Raises:
            ActUnknown: No such act was found.
            Overloaded: Too many acts that were taken back wait for a rebuild.
        """
        asked = id_of("event_id", event_id), None if user_id is None else id_of("user_id", user_id)
        return self._wait(lambda: self.running.engine.retractor.by_id(*asked))

    def placements(self) -> Sequence[PlacementView]:
        """Return the components of each placement, by name, and its origin."""
        return self._call(self.running.placing.views)

    def placement(self, name: str) -> PlacementDetail:
        """Return all that is known of one placement, its versions oldest first.

        Raises:
            NotFound: There is none of that name, and never was.
        """
        return self._call(lambda: self.running.placing.view(name))

    def set_placement(
        self, name: str, placement: Mapping[str, object], *, author: str, note: str = "", if_version: int | None = None
    ) -> PlacementDetail:
        """Set a placement; it answers from the next request on, also after a restart, until it is removed.

        Args:
            name: Of one of the file's, which it then overrides, or another.
            placement: Of the form of a table of ``[[placements]]``.
            author: Author of the change.
            note: Reason of the change.
            if_version: The newest version known to the author, 0 = none; another one refuses the change.

        Raises:
            ConfigInvalid: It is invalid; every fault is named, and nothing was changed. So with all that follow.
            PlacementChanged: Another author changed it since.
            RebuildRunning: A change of the configuration is running.
            Overloaded: The maximum of placements is kept.
            AppendFailed: The log could not be made durable.
        """
        said = Said(author, note, if_version)
        return self._wait(lambda: self.running.placing.put(name, placement, said))

    def remove_placement(
        self, name: str, *, author: str, note: str = "", if_version: int | None = None
    ) -> PlacementDetail:
        """Give a placement back to the file, as it was last read.

        Raises:
            NotFound: It is not set.
            MidstreamError: As ``set_placement`` does.
        """
        said = Said(author, note, if_version)
        return self._wait(lambda: self.running.placing.remove(name, said))

    def preview_placement(self, name: str, placement: Mapping[str, object], **request: Unpack[Request]) -> Preview:
        """Answer with a placement that is not set, and with today's; nothing is logged or kept.

        Raises:
            ConfigInvalid: It cannot be used; every fault is named.
            RequestInvalid: A field has the wrong type, or the filter, the context or the size cannot be used.
        """
        ask = read_request(RecommendationQuestion, {}, request).ask(id_of("name", name))
        return self._wait(lambda: self.running.placing.preview(name, placement, ask))

    @property
    def experiments(self) -> ExperimentCalls:
        """Experiments: ``start``, ``ramp``, ``stop``, ``show``, ``list``, and the holdout."""
        return ExperimentCalls(self._wait, lambda: self.running.experimenting)

    def training_decisions(self, model: str = "") -> Sequence[TrainingDecision]:
        """Return the decisions on trained models that the state keeps, the newest first, of one model or of all."""

        async def work() -> Sequence[TrainingDecision]:
            return training_history(self.running.engine.fold, model).decisions

        return self._wait(work)

    def _require_elsewhere(self) -> None:
        if threading.current_thread() is self._thread:
            message = "the thread of a shop cannot wait for the shop: a component calls the shop that it is part of"
            raise RuntimeError(message)

    def _require_owner(self) -> None:
        if os.getpid() != self._owner:
            message = (
                f"the shop was opened by process {self._owner}, from which this one was forked: open it in one worker, "
                "after the fork, or let the workers call midstream serve (midstream docs tasks/web-frameworks)"
            )
            raise RuntimeError(message)

    def submit(self, work: Callable[[], Awaitable[T]]) -> "Future[T]":
        """Begin work on the event loop of the engine, and return its future; ``work`` must not block.

        Raises:
            RuntimeError: The shop is not open, or in another process, or its own thread calls, which may not wait.
        """
        self._require_elsewhere()
        self._require_owner()
        with self._lock:
            if self._is_closed or not self._thread.is_alive():
                raise RuntimeError(_NOT_OPEN)
            return self._submit(work)

    def _wait(self, work: Callable[[], Awaitable[T]]) -> T:
        answer = self.submit(work)
        try:
            return answer.result()
        except CancelledError:
            if not self._is_closed:
                raise
            message = "the shop was closed before this was done"
            raise RuntimeError(message) from None

    def _submit(self, work: Callable[[], Awaitable[T]]) -> "Future[T]":
        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def _call(self, read: Callable[[], T]) -> T:
        """Run a read on the thread that owns the state."""

        async def run() -> T:
            return read()

        return self._wait(run)


async def _cancel_others() -> None:
    """End every other task of the running loop, and wait until each has let go of what it holds, or for long enough."""
    loop = asyncio.get_running_loop()
    until = loop.time() + END_S_MAX
    while (others := asyncio.all_tasks() - {asyncio.current_task()}) and loop.time() < until:
        for each in others:
            each.cancel()
        ended, _ = await asyncio.wait(others, timeout=until - loop.time())
        for each in ended:
            if not each.cancelled():
                each.exception()  # of a call its caller has it; of the engine's own tasks those that watch them do


def _listed(events: object) -> Sequence[Mapping[str, object]]:
    """Return one event or several as a list; its elements are validated one by one."""
    if isinstance(events, Mapping):
        return [cast("Mapping[str, object]", events)]
    if isinstance(events, str | bytes) or not isinstance(events, Sequence):
        right = "A dict, or a list of dicts, of the fields of an event: midstream docs events."
        raise RequestInvalid((Fault("events", f"{shown(events)} came.", right, "/docs/events.md"),))
    return cast("Sequence[Mapping[str, object]]", events)
