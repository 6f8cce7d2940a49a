"""First known attributes, for replays of acts on items that the catalogue named later.

A shop's clicks are often imported before its catalogue. At each of those acts no attribute was known, so a filter on
one lets no candidate pass, and a feature of one is NaN in all rows. A replay reconstructs slates that could have been
shown, and the shop knew its items. So it reads the values that the catalogue named first, within a day, and no later
ones. A price that changed since is the first one. Values that a shop had to learn first, such as sales of an item, do
not belong into a catalogue that came later, and are read all the same: then switch this off.

Availability is no such attribute: an item with an act was available. Served slates and features as of a moment are read
as they were, to the bit, and never so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from midstream.app.point_in_time.lookup import Past
from midstream.core.kinds import Kind, Operation
from midstream.core.types import Index, Mask
from midstream.engine.ingest.log_reader import batches
from midstream.events.schema import texts_of
from midstream.state.fold import Fold

FIRST_MS = 86_400_000
"""From its first row on, a day of log time: catalogues come in several files, and prices change from day to day."""
_ITEM_TEXT, _BODY_TEXT = 3, 6
_read = msgspec.json.Decoder(dict[str, object]).decode


@dataclass(slots=True, eq=False)
class FirstAttributes:
    """First attributes of each item, for one replay."""

    by_item: Mapping[str, Mapping[str, object]]
    """Of items that it named behind the first act of all; declared attributes alone."""
    _fold: Fold | None = None
    _next: int = 0
    _assumed: Mask = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def put(self, fold: Fold) -> None:
        """Let a state read them of the items that became known since the last call and are in no catalogue yet."""
        if not self.by_item:
            return
        if fold is not self._fold:
            self._fold, self._next = fold, 0
            self._assumed = np.zeros(fold.settings.limits.items_max, dtype=np.bool_)
        found = fold.items.uncatalogued(self._next)
        self._next = fold.items.count
        for index, item in zip(found.tolist(), fold.vocabulary.item_ids(found), strict=True):
            attributes = self.by_item.get(item)
            if attributes:
                fold.items.assume_attributes(index, attributes)
                self._assumed[index] = True

    def count(self, fold: Fold, item_index: Index) -> int:
        """Return how many of some items are read so in a state that ``put`` was called on."""
        if not self._assumed.any():
            return 0
        return int(np.count_nonzero(self._assumed[item_index] & ~fold.items.is_catalogued(item_index)))


def read_first_attributes(past: Past) -> FirstAttributes:
    """Return the first attributes of a log's items. Cost: a pass over the log, and 3 µs a row of the catalogue.

    Raises:
        LogDamaged: The log cannot be trusted.
    """
    declared = past.config.items.attributes
    found: dict[str, dict[str, object]] = {}
    until: dict[str, int] = {}
    is_begun = False
    for _, batch in batches(past.log.read, past.log.begin, past.log.end) if declared else ():
        kinds, operations = batch.rows["kind"], batch.rows["operation"]
        acts = np.flatnonzero((kinds == Kind.INTERACTION) | (kinds == Kind.IMPRESSION))
        first_act = 0 if is_begun else int(acts[0]) if len(acts) else len(batch)
        for at in np.flatnonzero(kinds == Kind.ITEM).tolist():
            texts = texts_of(batch, at)
            item, log_time_ms = texts[_ITEM_TEXT].decode(), int(batch.rows["log_time_ms"][at])
            is_delete = operations[at] == Operation.DELETE
            if at < first_act or is_delete:
                until.setdefault(item, -1)  # known before all acts, or gone: nothing is assumed of it
            elif log_time_ms <= until.setdefault(item, log_time_ms + FIRST_MS):
                told = _read(texts[_BODY_TEXT] or b"{}")
                named = {name: value for name, value in told.items() if name in declared and value is not None}
                found[item] = {**named, **found.get(item, {})}
        is_begun = is_begun or len(acts) > 0
    return FirstAttributes(found)
