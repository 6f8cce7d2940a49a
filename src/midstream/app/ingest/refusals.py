"""Reasons of refused rows: well-formed events that the engine or a server did not accept, counted by reason."""

import re
from collections.abc import Sequence

import msgspec
import numpy as np

from midstream.core.errors import Fault
from midstream.core.fault_groups import FaultGroup, FaultGroups
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.engine.ingest.admitted_batch import ERASED_CAME, AdmittedBatch
from midstream.engine.types import Outcome, Recorded
from midstream.events.faults import shown
from midstream.events.json.decode import SingleEvent
from midstream.events.json.encode import to_object
from midstream.events.schema import event_at

PAGE = "/docs/events.md"
_ERASED = Fault("user_id", ERASED_CAME, "Events of a later time: for 24 h late copies are refused.", PAGE)
_RIGHT_ACT = 'An item of the catalogue: import that first, or set unknown_items = "accept" below [items].'
_RIGHT_ITEM = "As many items as there is room for: a larger items_max below [limits]."
_PLACE = re.compile(r"^(?:/events/|row |line )\d+:? ?/?")
"""Which event of a request it was: that says nothing of the file."""


def admitted_rows(batch: EventBatch) -> AdmittedBatch:
    """Return rows of a file, each an event, as they are: request ids of an export are those of its served records."""

    def row(at: int) -> SingleEvent:
        return SingleEvent("", msgspec.json.encode(to_object(event_at(batch, at))), None)

    return AdmittedBatch(batch, np.arange(len(batch), dtype=np.int32), (), len(batch), row)


class ServerRejection(msgspec.Struct, frozen=True):
    """An event that a server rejected, as its answer has it."""

    pointer: str = ""
    came: str = ""
    right: str = ""
    page: str = ""


class Refusals:
    """Refused rows of one import, in bounded memory."""

    def __init__(self) -> None:
        """Begin with none."""
        self._groups = FaultGroups()

    @property
    def groups(self) -> tuple[FaultGroup, ...]:
        """Return the reasons, the most frequent first; a server names the first ones of a request alone."""
        return tuple(self._groups.groups)

    def add_refused(self, batch: EventBatch, recorded: Recorded) -> None:
        """Count rows that an engine refused: of erased users, and of items that are unknown or have no place."""
        if len(recorded.erased):
            self._groups.add(_ERASED, len(recorded.erased))
        rows = np.setdiff1d(np.flatnonzero(recorded.outcome == Outcome.REFUSED), recorded.erased)
        is_item = batch.rows["kind"][rows] == Kind.ITEM
        for chosen, came, right in (
            (rows[~is_item], "is not known here.", _RIGHT_ACT),
            (rows[is_item], "has no place: the catalogue is full.", _RIGHT_ITEM),
        ):
            if len(chosen):
                item = shown(event_at(batch, int(chosen[0])).item_id)
                self._groups.add(Fault("item_id", f"{item} {came}", right, PAGE), len(chosen))

    def add_answer(self, rejections: Sequence[ServerRejection]) -> None:
        """Count what a server named."""
        for each in rejections:
            where = _PLACE.sub("", each.pointer) or "event"
            self._groups.add(Fault(where, each.came, each.right, each.page))
