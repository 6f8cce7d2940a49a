"""All declared features of a plan as one block of columns: cells and inputs are read, then one kernel computes all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import numpy as np

from midstream.core.types import Candidates, Moment, Score
from midstream.events.wire import AttributeKind
from midstream.features.external import Tables, bound
from midstream.features.inputs import Reader
from midstream.features.kinds import AnyFeature, program_of
from midstream.features.request_inputs import ItemField, fill_fields
from midstream.state.cells import Cells, Keys
from midstream.state.program import Columns, Program

_NO_TABLES: Tables = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class DeclaredFeatures:
    """Reads the columns of declared features: a ``Feature``."""

    program: Program
    readers: tuple[Reader, ...]
    """In the order of their columns among the program's inputs."""

    def __eq__(self, other: object) -> bool:
        """Return whether the other reads the same columns from the same parts."""
        if not isinstance(other, DeclaredFeatures):
            return NotImplemented
        mine, theirs = self.program, other.program
        same = (mine.names, mine.steps, self.readers) == (theirs.names, theirs.steps, other.readers)
        return same and bool((mine.outputs == theirs.outputs).all())

    __hash__ = None  # type: ignore[assignment]  # it is compared, and never a key

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return self.program.names

    def read(self, moment: Moment, candidates: Candidates) -> Score:
        """Return values (n, len(names)) as of the question's time; NaN = nothing is known."""
        keys = Keys(candidates.item_index, moment.user_index, moment.user_hash, moment.session_number)
        inputs = np.full((len(self.program.inputs), len(candidates)), np.nan)
        start = 0
        fields: dict[str, Columns] = {}
        for reader in self.readers:
            stop = start + reader.rows
            if isinstance(reader, ItemField):
                fields[reader.field] = inputs[start]
            else:
                reader.fill(moment, candidates, inputs[start:stop])
            start = stop
        fill_fields(fields, moment, candidates)
        return moment.table(Cells).columns(self.program, keys, inputs, moment.query.now_ms)


def declared(
    features: Sequence[AnyFeature],
    attributes: Mapping[str, AttributeKind],
    among: Sequence[AnyFeature] = (),
    tables: Tables = _NO_TABLES,
) -> DeclaredFeatures:
    """Return the block that reads features.

    Args:
        features: Whose columns are read, in this order. Free of faults (``features.checking``).
        attributes: Declared item attributes, which features may read.
        among: Further features that expressions may name.
        tables: Content of the tables that they read.
    """
    del attributes  # a reader asks the state for the kind
    program = program_of(features, among)
    readers = tuple(dict.fromkeys(bound(cast("Reader", each.reader), tables) for each in program.inputs))
    return DeclaredFeatures(program, readers)
