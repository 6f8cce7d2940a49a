"""All declared features of a plan as one block of columns: cells are read, then one kernel computes every column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from midstream.core.types import Candidates, Moment, Score
from midstream.events.wire import AttributeKind
from midstream.features.kinds import Declared, program_of
from midstream.state.cells import Cells, Keys
from midstream.state.program import Program
from midstream.state.program_kernel import Steps, steps_of


@dataclass(frozen=True, slots=True, eq=False)
class DeclaredFeatures:
    """Reads the columns of declared features: a ``Feature``."""

    program: Program
    steps: Steps

    def __eq__(self, other: object) -> bool:
        """Return whether the other reads the same columns from the same parts."""
        if not isinstance(other, DeclaredFeatures):
            return NotImplemented
        mine, theirs = self.program, other.program
        same = (mine.names, mine.steps) == (theirs.names, theirs.steps)
        return same and bool((mine.outputs == theirs.outputs).all())

    __hash__ = None  # type: ignore[assignment]  # it is compared, and never a key

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return self.program.names

    def read(self, moment: Moment, candidates: Candidates) -> Score:
        """Return values (n, len(names)) as of the question's time; NaN = nothing is known."""
        keys = Keys(candidates.item_index, moment.user_index, moment.user_hash, moment.session_number)
        inputs = np.empty((len(self.program.inputs), len(candidates)), dtype=np.float64)
        return moment.table(Cells).columns(self.program, keys, inputs, moment.query.now_ms)


def declared(features: Sequence[Declared], attributes: Mapping[str, AttributeKind]) -> DeclaredFeatures:
    """Return the block that reads features.

    Args:
        features: Whose columns are read, in this order.
        attributes: Declared item attributes, which features may read.
    """
    del attributes  # no kind of today reads one by itself
    program = program_of(features)
    return DeclaredFeatures(program, steps_of(program))
