"""Online models: linear models that go on learning from what follows the slates they scored, as the log goes on.

A promotion gives a model's sums, an answer that it scored the bins of its items, impressions and interactions what they
were worth; all three are in the log, so the sums of now are a fold of it and no file is read. A version of other bins,
inputs or numbers of either begins with its own sums alone. One of the same, as a warm start is, learns the rows that
are held once more.

No user is known here, so nothing is to do when one is merged or erased.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep, ServedSlates
from midstream.core.kinds import Kind
from midstream.core.types import IndexedBatch, Models
from midstream.events.schema import texts_of
from midstream.models.rows.ftrl import Ftrl
from midstream.models.rows.online_sums import (
    INPUTS_MAX,
    ONLINE_BINS_MAX,
    OnlineSums,
    binning_of,
    part_count,
    with_sums,
)
from midstream.state.control.promotions import PromotionBody, promotion_of
from midstream.state.online.bins_parser import WantedBins
from midstream.state.online.online_fold import (
    BINS,
    BY_POSITION,
    CORRECTED,
    EVICTED,
    INPUTS,
    LEARNED,
    NUMBERS,
    PARTS_AND_BIAS,
    PROMOTED,
    REFUSED,
    RINGS,
    ROOT,
    ROW,
    SETTLED,
    SLATE,
    TOTALS,
    Learning,
    N,
    OnlineColumns,
    Z,
    begin_anew,
    fold_online,
    weigh_all,
)
from midstream.state.online.part_lanes import LANES
from midstream.state.outcomes.early_outcomes import WAITING_ROW, nobody_waits, read_waiting, write_waiting
from midstream.state.outcomes.served_slates import SLATE_ITEMS_MAX, read_slates
from midstream.state.settings import FoldSettings, OnlineModel
from midstream.state.structures.aligned import aligned_zeros
from midstream.state.structures.hash_table import fill, table_size
from midstream.state.structures.kernel import frozen_columns

if TYPE_CHECKING:
    from midstream.state.online.bound_learning import BoundLearning

CHAMPION = "champion"
PARTS_MAX = part_count(INPUTS_MAX, ONLINE_BINS_MAX)
_BODY = 6
_SERVED = int(Kind.SERVED)
_COUNTED = {
    "online_learned": LEARNED,
    "online_corrected": CORRECTED,
    "online_slate_evicted": EVICTED,
    "online_promoted": PROMOTED,
    "online_refused": REFUSED,
}
_WAITING = ("request", "item", "action", "log_time_ms")
_SLATE = ("request", "log_time_ms", "place", "length", "is_seen")
_SUMS = {"z": Z, "n": N}
"""What is kept of ``Learning.sums``: the rest follows from it."""
_SUM_BYTES = 8 * (ROOT + 1) * (PARTS_MAX + 1)
_ROW_PARTS = INPUTS_MAX + PARTS_AND_BIAS + LANES
Arrays = Mapping[str, NDArray[np.generic]]


def online_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    waiting = settings.limits.outcomes_waiting_max
    fixed = waiting * WAITING_ROW.itemsize + 4 * table_size(waiting) + _SUM_BYTES
    return sum(
        each.slates_max * SLATE.itemsize
        + 4 * table_size(each.slates_max)
        + each.items_max * (ROW.itemsize + INPUTS_MAX)
        + fixed
        for each in settings.online
    )


class OnlineModels:
    """The models of the settings, by name; each has a version, or none was promoted yet."""

    def __init__(self, settings: FoldSettings) -> None:
        """Reserve the maxima; pages are paid when touched."""
        self._models = {each.name: _Learner(each, settings) for each in settings.online}
        self._key = settings.hash_key()
        self._served: dict[str, tuple[tuple[int, int], Ftrl, Ftrl]] = {}
        """Of each model which sums it had, the version, and the model of both: made once for many answers."""

    @property
    def is_declared(self) -> bool:
        """Whether any model goes on learning."""
        return bool(self._models)

    @property
    def names(self) -> frozenset[str]:
        """Names of the models."""
        return frozenset(self._models)

    @property
    def bytes_now(self) -> int:
        """Memory of what was touched, about."""
        return sum(each.bytes_now for each in self._models.values())

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        return sum(each.bytes_max for each in self._models.values())

    @property
    def totals(self) -> Mapping[str, int]:
        """Rows learned, clicks after their row was learned as none, slates that made room, promotions, refused sums."""
        held = [each.held.totals for each in self._models.values()]
        return {name: sum(int(totals[place]) for totals in held) for name, place in _COUNTED.items()}

    def apply(self, step: FoldStep) -> None:
        """Fold a step. Cost: 0.8 µs a slate of ten items, 0.08 µs a row of 10 inputs, 0.16 µs of 40; 12 µs a call."""
        if not self._models:
            return
        batch, start = step.events, 0
        if not len(batch):
            return
        for place in step.controls():
            body = promotion_of(texts_of(batch.source, place)[_BODY])
            if body is not None and body.alias == CHAMPION and body.model in self._models:
                self._fold(step, start, place)
                self._models[body.model].promote(body)
                start = place
        self._fold(step, start, len(batch))

    def _fold(self, step: FoldStep, start: int, stop: int) -> None:
        """Fold some events; what the join of outcomes has read of them is not read again."""
        batch = step.events
        slates = step.slates
        learning = [each for each in self._models.values() if each.version and start < stop]
        # Where the join has read slates something came of them: not looked at again.
        due = [each for each in learning if slates is not None or each.is_due(batch, stop)]
        if not due:
            return
        rows, text = step.frozen or frozen_columns(batch.source)
        if slates is None:
            served = np.flatnonzero((batch.kind == _SERVED) & batch.folded & (batch.request_hash != 0))
            _, slates = read_slates(rows, text, served, self._key)
        columns = OnlineColumns(
            batch.kind, batch.folded, batch.action, batch.item_hash, batch.request_hash, batch.log_time_ms, rows, text,
            self._key,
        )  # fmt: skip
        for each in due:
            each.fold(columns, slates, start, stop)

    def sums(self, name: str, version: str) -> OnlineSums | None:
        """Return what a version of a model has learned so far, None = it is not the one that learns."""
        learner = self._models.get(name)
        return learner.sums() if learner is not None and learner.version == version else None

    def serving(self, models: Models) -> Models:
        """Return models of which each that goes on learning has the sums of now; themselves where there is none.

        A version that is not the one that learns here, or not as its promotion has it, stays as it is.
        """
        found: dict[str, object] = {}
        for name, learner in self._models.items():
            model = models.by_name.get(name)
            if isinstance(model, Ftrl) and learner.version and models.versions.get(name) == learner.version:
                age, version, made = self._served.get(name, (None, None, None))
                if age != learner.age or version is not model or made is None:
                    if not learner.is_shaped_as(model):
                        continue
                    made = with_sums(model, *learner.copies())
                    self._served[name] = learner.age, model, made
                found[name] = made
        return Models({**models.by_name, **found}, models.versions, models.calibrations) if found else models

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return all of each model; none of settings without such models."""
        return {f"{name}.{key}": array for name, each in self._models.items() for key, array in each.arrays().items()}

    def restore(self, arrays: Arrays) -> None:
        """Replace the table by what ``arrays`` returned."""
        self._served.clear()
        for name, each in self._models.items():
            prefix = f"{name}."
            own = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
            each.restore(own)


class _Learner:
    """One model."""

    def __init__(self, model: OnlineModel, settings: FoldSettings) -> None:
        self._window_ms = settings.outcome_window.ms
        self._wait_ms = model.wait.ms
        self._items_max = min(SLATE_ITEMS_MAX, model.items_max)
        waiting = settings.limits.outcomes_waiting_max
        self.held = Learning(
            slates=np.zeros(model.slates_max, dtype=SLATE),
            table=np.zeros(table_size(model.slates_max), dtype=np.int32),
            rows=np.zeros(model.items_max, dtype=ROW),
            bins=np.zeros((model.items_max, INPUTS_MAX), dtype=np.uint8),
            rings=np.zeros(2, dtype=RINGS),
            waiting=np.zeros(waiting, dtype=WAITING_ROW),
            waiting_table=np.zeros(table_size(waiting), dtype=np.int32),
            waiting_meta=nobody_waits(),
            sums=aligned_zeros((PARTS_MAX + 1, ROOT + 1), np.dtype(np.float64)),
            rates=np.ones(4),
            numbers=np.zeros(NUMBERS, dtype=np.int64),
            totals=np.zeros(TOTALS, dtype=np.int64),
            is_click=np.array([name in model.clicks for name in settings.action_names()], dtype=np.bool_),
            parts=np.full(_ROW_PARTS, PARTS_MAX, dtype=np.int64),
        )
        self._bound: BoundLearning | None = None
        """``held`` as one value, once events were learned."""
        self.version = ""
        """The version that learns; empty = none."""
        self._manifest = ""
        self.binning: int = 0
        self._wanted = self._bins()

    @property
    def age(self) -> tuple[int, int]:
        """Rows learned and versions promoted: it changes with the sums."""
        return int(self.held.totals[LEARNED]), int(self.held.totals[PROMOTED])

    @property
    def bytes_now(self) -> int:
        """Memory of what was touched, about."""
        slates, rows = map(int, self.held.rings["used"])
        waited = int(self.held.waiting_meta["used"][0])
        sums = _SUM_BYTES if self.version else 0
        return slates * SLATE.itemsize + rows * (ROW.itemsize + INPUTS_MAX) + waited * WAITING_ROW.itemsize + sums

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        names = ("slates", "table", "rows", "bins", "waiting", "waiting_table", "sums")
        return sum(getattr(self.held, name).nbytes for name in names)

    def promote(self, body: PromotionBody) -> None:
        """Learn on from a version, unless it is the one that learns; one without usable sums does not learn."""
        if (body.version, body.manifest) == (self.version, self._manifest):
            return
        sums = body.online
        found = None if sums is None else sums.arrays()
        self.held.totals[REFUSED] += sums is not None and found is None
        self.held.totals[PROMOTED] += 1
        if sums is None or found is None or not body.version:
            self._clear()
            return
        if self._shape() != (sums.binning, sums.inputs, sums.bins):
            self._clear()  # behind the bins of a row that is held lie those of rows before, of versions of more inputs
        self.version, self._manifest, self.binning = body.version, body.manifest, sums.binning
        parts = part_count(sums.inputs, sums.bins)
        self.held.sums[:] = 0.0
        for column, values in zip(_SUMS.values(), found, strict=True):
            self.held.sums[:parts, column] = values
        self.held.rates[:] = sums.alpha, sums.beta, sums.l1, sums.l2
        self.held.numbers[: BY_POSITION + 1] = sums.inputs, sums.bins, sums.by_position
        self._wanted = self._bins()
        begin_anew(self.held)

    def is_shaped_as(self, model: Ftrl) -> bool:
        """Return whether the sums of now are sums of a model: a promotion may say of a version what is none of it."""
        return self._shape() == (binning_of(model), len(model.inputs), model.options.bins)

    def _shape(self) -> tuple[int, int, int]:
        """Return the binning of the version that learns, and its numbers of inputs and bins; 0 = none learns."""
        inputs, bins = self.held.numbers.tolist()[: BINS + 1]
        return self.binning, inputs, bins

    def _clear(self) -> None:
        """Be without a version, and hold nothing."""
        held = self.held
        self.version, self._manifest, self.binning = "", "", 0
        for array in (held.sums, held.table, held.numbers):
            array[:] = 0
        held.rates[:] = 1.0
        held.rings["head"] = held.rings["count"] = 0
        self._await(np.zeros(0, dtype=WAITING_ROW))

    def is_due(self, batch: IndexedBatch, stop: int) -> bool:
        """Return whether any event of a batch names a request, or the last one's time is that of something held."""
        return bool(batch.request_hash.any()) or not self._stands(batch, stop)

    def fold(self, columns: OnlineColumns, slates: ServedSlates, start: int, stop: int) -> None:
        """Fold some events of a batch; ``slates`` are those that it serves."""
        if self._bound is None:
            from midstream.state.online.bound_learning import make_learning

            self._bound = make_learning(self.held)
        fold_online(start, stop, self._wait_ms, self._window_ms, columns, slates, self._wanted, self._bound)

    def _bins(self) -> WantedBins:
        """Return the bins of the version that learns."""
        return WantedBins(np.uint64(self.binning), int(self.held.numbers[INPUTS]), self._items_max)

    def _stands(self, batch: IndexedBatch, stop: int) -> bool:
        """Say whether nothing that is held is due by an event."""
        held, now = self.held, int(batch.log_time_ms[stop - 1])
        head, count, _ = held.rings.tolist()[0]
        settled, found = int(held.numbers[SETTLED]), list[int]()
        if count:
            found.append(int(held.slates["log_time_ms"][head]) + self._window_ms + 1)
        if settled < count:
            place = (head + settled) % len(held.slates)
            found.append(int(held.slates["log_time_ms"][place]) + self._wait_ms)
        if (waits := held.waiting_meta.tolist()[0])[0]:
            found.append(int(held.waiting["log_time_ms"][waits[3]]) + self._window_ms + 1)
        return not found or now < min(found)

    def copies(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return z and n. Own memory."""
        parts = self._part_count()
        return self.held.sums[:parts, Z].copy(), self.held.sums[:parts, N].copy()

    def sums(self) -> OnlineSums | None:
        """Return the sums of now, None = no version learns."""
        if not self.version:
            return None
        z, n = (each.astype("<f8").tobytes() for each in self.copies())
        inputs, bins, by_position, _ = self.held.numbers.tolist()
        alpha, beta, l1, l2 = self.held.rates.tolist()
        return OnlineSums(self.binning, inputs, bins, alpha, beta, l1, l2, bool(by_position), z, n)

    def _part_count(self) -> int:
        _, inputs, bins = self._shape()
        return part_count(inputs, bins) if inputs else 0

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return version, sums, the slates that are held, oldest first, their rows and bins, and what waits."""
        held = self.held
        (head, count, _), (first, rows, _) = held.rings.tolist()
        slates = held.slates[(head + np.arange(count, dtype=np.int64)) % len(held.slates)]
        places = (first + np.arange(rows, dtype=np.int64)) % len(held.rows)
        order = np.empty(int(held.waiting_meta["count"][0]), dtype=np.int32)
        write_waiting(held.waiting, held.waiting_meta, order)
        waiting, z, n = held.waiting[order], *self.copies()
        named = msgspec.json.encode((self.version, self._manifest, self.binning))
        return {
            "version": np.frombuffer(named, dtype=np.uint8),
            "z": z,
            "n": n,
            "rates": held.rates.copy(),
            "numbers": held.numbers.copy(),
            "totals": held.totals.copy(),
            **{f"slate_{name}": np.ascontiguousarray(slates[name]) for name in _SLATE},
            **{f"row_{name}": np.ascontiguousarray(held.rows[name][places]) for name in ROW.names or ()},
            "bins": held.bins[places, : int(held.numbers[INPUTS])],
            **{f"waiting_{name}": np.ascontiguousarray(waiting[name]) for name in _WAITING},
        }

    def restore(self, arrays: Arrays) -> None:
        """Replace the model by what ``arrays`` returned."""
        held = self.held
        self._clear()
        named = msgspec.json.decode(arrays["version"].tobytes(), type=tuple[str, str, int])
        self.version, self._manifest, self.binning = named
        for name, column in _SUMS.items():
            held.sums[: len(arrays[name]), column] = arrays[name]
        for name in ("rates", "numbers", "totals"):
            getattr(held, name)[:] = arrays[name]
        count, rows = len(arrays["slate_request"]), len(arrays["row_item"])
        for name in _SLATE:
            held.slates[name][:count] = arrays[f"slate_{name}"]
        lengths = arrays["slate_length"].astype(np.int64)
        held.slates["first"][:count] = np.cumsum(lengths) - lengths
        for name in ROW.names or ():
            held.rows[name][:rows] = arrays[f"row_{name}"]
        held.bins[:rows, : int(held.numbers[INPUTS])] = arrays["bins"]
        held.rings["count"] = count, rows
        held.rings["used"] = np.maximum(held.rings["used"], held.rings["count"])
        fill(held.slates["request"], count, held.table)
        waiting = np.zeros(len(arrays["waiting_request"]), dtype=WAITING_ROW)
        for name in _WAITING:
            waiting[name] = arrays[f"waiting_{name}"]
        self._await(waiting)
        self._wanted = self._bins()
        weigh_all(held)

    def _await(self, rows: NDArray[np.void]) -> None:
        """Let exactly these wait."""
        held = self.held
        held.waiting[: int(held.waiting_meta["used"][0])] = np.zeros(1, dtype=WAITING_ROW)
        held.waiting_table[:] = 0
        held.waiting_meta[:] = nobody_waits()
        read_waiting(rows, held.waiting, held.waiting_table, held.waiting_meta)
