"""Sums of a linear model on their way into the log, and bins of rows on their way into served records.

A state that learns on from a version needs its sums and options, and no file: they travel in the event that promotes
the version. It needs no values either: the bins that a served item fell into say all that the model read. So whoever
has the log has all that was learned from.
"""

import struct
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from midstream.core.errors import Fault, Invalid
from midstream.core.types import Score
from midstream.models.rows.ftrl import POSITIONS, Ftrl

INPUTS_MAX: Final = 64
"""Inputs of a model that learns on: a byte each for each served item."""
ONLINE_BINS_MAX: Final = 64
"""64 inputs x 66 parts x 16 bytes of sums are 68 kB, 90 kB in an event; a body may have 256 KiB."""
HEAD: Final = struct.Struct("<QI")
"""Before the bins of a slate's items: of which binning they are, and the place of the first item."""
PAGE: Final = "/docs/models.md"


class OnlineSums(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a state learns on from."""

    binning: int
    """``binning_of`` the model: bins of another one mean something else."""
    inputs: int
    bins: int
    alpha: float
    beta: float
    l1: float
    l2: float
    by_position: bool
    z: bytes
    """Little-endian float64, one of each part in the order of ``Ftrl``."""
    n: bytes

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return z and n, None where a part of it all cannot be: a log may hold what anybody wrote."""
        parts = part_count(self.inputs, self.bins)
        is_sized = 1 <= self.inputs <= INPUTS_MAX and 1 <= self.bins <= ONLINE_BINS_MAX and self.binning > 0
        if not is_sized or not len(self.z) == len(self.n) == 8 * parts:
            return None
        z, n = (np.frombuffer(each, dtype="<f8").astype(np.float64) for each in (self.z, self.n))
        rates = (self.alpha, self.beta, self.l1, self.l2)
        is_finite = bool(np.isfinite(z).all() and np.isfinite(n).all() and np.isfinite(rates).all())
        return (z, n) if is_finite and bool((n >= 0).all()) and self.alpha > 0 and min(rates) >= 0 else None


def online_sums(model: object, name: str) -> OnlineSums:
    """Return the sums of a version that is to learn on.

    Raises:
        Invalid: The model is none that can: another kind, standardised values, weights by propensity, too many inputs
            or bins.
    """
    if not isinstance(model, Ftrl):
        raise _cannot(name, f"{type(model).__name__} came.", 'kind = "ftrl".')
    options = model.options
    if model.scale.any():
        raise _cannot(name, "It was fitted with standardised values.", "options.is_standardised = false: bins alone.")
    if options.debias == "propensity":
        raise _cannot(name, 'It was fitted with debias = "propensity".', 'debias = "position" or "none".')
    if len(model.inputs) > INPUTS_MAX or options.bins > ONLINE_BINS_MAX:
        came = f"It has {len(model.inputs)} inputs of {options.bins} bins."
        raise _cannot(name, came, f"At most {INPUTS_MAX} inputs and {ONLINE_BINS_MAX} bins.")
    z, n = (each.astype("<f8").tobytes() for each in (model.z, model.n))
    rates = (options.alpha, options.beta, options.l1, options.l2)
    is_by_position = options.debias == "position"
    return OnlineSums(binning_of(model), len(model.inputs), options.bins, *rates, is_by_position, z, n)


def _cannot(name: str, came: str, right: str) -> Invalid:
    return Invalid((Fault(f"models.{name}.online", came, right, PAGE),))


def binning_of(model: Ftrl) -> int:
    """Return a number above 0 of the inputs and the edges of their bins. A warm start keeps it."""
    text = xxhash.xxh64("\n".join(model.inputs).encode())
    text.update(np.ascontiguousarray(model.edges, dtype="<f4").tobytes())
    return text.intdigest() or 1


def with_sums(model: Ftrl, z: NDArray[np.float64], n: NDArray[np.float64]) -> Ftrl:
    """Return the model with the sums of a state. Cost: 60 µs at 40 inputs."""
    return replace(model, z=z, n=n, is_online=True)


def packed_bins(model: Ftrl, values: Score, first_position: int) -> bytes:
    """Return the bins of rows (n, inputs) as a served record has them: a byte each, behind ``HEAD``.

    The bin of a value is the number of edges below it; what is unknown has the bin behind all.
    """
    bins = np.count_nonzero(model.edges[np.newaxis] < values[:, :, np.newaxis], axis=2)
    bins = np.where(np.isnan(values), model.options.bins, bins).astype(np.uint8)
    return HEAD.pack(binning_of(model), first_position) + bins.tobytes()


def part_count(inputs: int, bins: int) -> int:
    """Return the number of weights: bins, unknown and value of each input, positions, bias."""
    return inputs * (bins + 2) + POSITIONS + 1
