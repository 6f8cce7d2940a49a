"""Promotions: the champion, challenger and shadow of each model, a fold of control events.

A row is one alias of one model: the version it stands for, the one it stood for before, and where in the log that was
said. The manifest's hash is part of the event, so a version of the same name and other content is not taken for it. A
body that says something else is passed by and counted. When all places are taken, the alias makes room that stands for
none, else the one that was named longest ago: a shop whose models have a date in their names goes on with the newest.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep
from midstream.events.schema import texts_of
from midstream.models.rows.online_sums import OnlineSums
from midstream.state.control import import_runs, input_positions, placements
from midstream.state.control.control_change import change_of

ALIASES = ("champion", "challenger", "shadow")
"""What a version of a model may be: answers, is compared with what answers, is asked without being heard."""
PROMOTIONS_MAX = 192
"""64 models of three aliases each: more than any plan reads."""
PROMOTION_BYTES = 600
"""Of a row, about: eight Python values and their tuple."""
OTHER_CHANGES = frozenset((placements.CHANGE, import_runs.CHANGE, input_positions.CHANGE))
"""Subjects of control events that other tables fold, or none does."""
_BODY = 6


class Promotion(NamedTuple):
    """Version that one alias of one model names."""

    model: str
    alias: str
    version: str
    """Empty = none."""
    manifest: str
    """64 hex digits of the SHA-256 of the version's manifest; empty = none."""
    previous: str
    """The version that the alias stood for before; empty = none. What a rollback gives back."""
    previous_manifest: str
    position: int
    """Log position before the last event that named it, whether that changed anything or not."""
    log_time_ms: int


class PromotionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Body of a control event that lets an alias of a model stand for a version."""

    change: str
    """``model_alias``: control events change other things too."""
    model: str
    alias: str
    version: str
    manifest: str
    online: OnlineSums | None = None
    """Of a version that goes on learning: what it has learned so far (``state.online``)."""


class Promotions:
    """Aliases of models."""

    def __init__(self) -> None:
        """Start with none."""
        self._rows: dict[tuple[str, str], Promotion] = {}
        self.refused_count = 0
        """Control events that say nothing that is known here."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    @property
    def bytes_now(self) -> int:
        """Memory of all rows, about."""
        return len(self._rows) * PROMOTION_BYTES

    @property
    def bytes_max(self) -> int:
        """Memory of as many as may be, about."""
        return PROMOTIONS_MAX * PROMOTION_BYTES

    @property
    def rows(self) -> Sequence[Promotion]:
        """Every alias, by model and alias."""
        return [self._rows[key] for key in sorted(self._rows)]

    @property
    def next_out(self) -> Promotion | None:
        """The alias that makes room for a new one; None while there is room."""
        if len(self._rows) < PROMOTIONS_MAX:
            return None
        return min(self._rows.values(), key=lambda row: (bool(row.version), row.position))

    def find(self, model: str, alias: str = "champion") -> Promotion | None:
        """Return what an alias of a model stands for, None = nothing was ever said of it."""
        return self._rows.get((model, alias))

    def apply(self, step: FoldStep) -> None:
        """Fold a step. Nothing is about aliases in nearly every one."""
        batch = step.events
        for index in step.controls():
            told = texts_of(batch.source, index)[_BODY]
            if change_of(told) in OTHER_CHANGES:
                continue
            body = promotion_of(told)
            key = ("", "") if body is None else (body.model, body.alias)
            if body is None:
                self.refused_count += 1
                continue
            place = (int(batch.first) + index, int(batch.log_time_ms[index]))
            before = self._rows.get(key)
            was = ("", "") if before is None else (before.version, before.manifest)
            if was != (body.version, body.manifest):
                if before is None and (out := self.next_out) is not None:
                    del self._rows[out.model, out.alias]
                self._rows[key] = Promotion(*key, body.version, body.manifest, *was, *place)
            elif before is not None:
                self._rows[key] = before._replace(position=place[0], log_time_ms=place[1])

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the rows as JSON, by model and alias, and the counter."""
        return {
            "rows": np.frombuffer(msgspec.json.encode(self.rows), dtype=np.uint8),
            "refused": np.array([self.refused_count], dtype=np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned."""
        rows = msgspec.json.decode(arrays["rows"].tobytes(), type=list[Promotion])
        self._rows = {(row.model, row.alias): row for row in rows}
        self.refused_count = int(cast("list[int]", arrays["refused"].tolist())[0])


def promotion_of(body: bytes) -> PromotionBody | None:
    """Return what the body of a control event says of an alias, None = something else."""
    try:
        found = msgspec.json.decode(body, type=PromotionBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found.change == "model_alias" and found.alias in ALIASES and found.model else None


def promotion_body(model: str, alias: str, version: str, manifest: str, online: OnlineSums | None = None) -> bytes:
    """Return the body of a control event; version and manifest are empty where the alias is to stand for none."""
    return msgspec.json.encode(PromotionBody("model_alias", model, alias, version, manifest, online))
