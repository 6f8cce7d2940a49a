"""One structure of numba that holds the state of a model, which is the same arrays for as long as the model is there.

Thirteen arrays one by one take about 10 µs more of a call between folds of other tables than one structure that holds
them, as much as 100 rows take to be learned. It is made by a kernel, whose code is cached: made from Python it
would be compiled in each process. This module imports numba, so it is imported when the first events are learned.
"""

from typing import Any

from numba import types
from numba.experimental import structref

from midstream.state.online.online_fold import Learning
from midstream.state.structures.kernel import kernel


@structref.register  # pyright: ignore[reportUnknownMemberType]  # it has no types
class BoundLearningType(types.StructRef):
    """Type of the structure."""

    def preprocess_fields(self, fields: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
        """Return the fields with types of values, as numba's documents say."""
        return tuple((name, types.unliteral(kind)) for name, kind in fields)  # type: ignore[no-untyped-call]


class BoundLearning(structref.StructRefProxy):
    """The structure as Python holds it: it keeps its arrays alive. Kernels read its field."""

    held: Learning


structref.define_proxy(BoundLearning, BoundLearningType, list(BoundLearning.__annotations__))  # type: ignore[no-untyped-call]


@kernel
def make_learning(held: Learning) -> BoundLearning:
    """Return the structure of a model's state."""
    return BoundLearning(held)  # type: ignore[no-untyped-call]
