"""Export of sequence models as ONNX, for programs elsewhere, by PyTorch's exporter: written where the arrays agree.

The network takes the vectors of the items of a history, oldest first, ``items`` (m, d) with m from 1 to the number of
ages, and gives ``user`` (1, d), to be multiplied with the vectors of all items. These are in the model's own arrays and
not repeated: they are nearly all of it.

The arrays are the model and answer everywhere, whatever is installed, to the same bits. An export is run once, when it
is written, and left out where it differs from them by more than ``TOLERANCE`` or where nothing can run it. A network
that arrives with a version is never run: a file of 300 bytes can ask for 2^60 steps, and no thread can be ended.

Reference: ONNX operators, opset 18 (LayerNormalization).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from midstream.core.errors import ArtifactInvalid, ExtraMissing
from midstream.models.histories import Histories
from midstream.models.items.sasrec import library, read_places
from midstream.models.items.sequence import NAMES, Real32, SequenceModel
from midstream.models.onnx.session import Session
from midstream.models.onnx.torch_graph import torch_graph

Run: TypeAlias = Callable[[Real32], Real32]
"""From the vectors of the items of a history, oldest first, (m, d), to that of its user, (d,)."""
FILE = "network.onnx"
"""Of a version."""
TOLERANCE = 1e-4
"""Of the largest number of a user."""
_FAILURES = (
    RuntimeError, MemoryError, TypeError, ValueError, AttributeError, LookupError, NotImplementedError, SystemError
)  # fmt: skip
"""Of the exporter: a network that cannot be written is left out of a version, which answers by its arrays."""
LENGTHS = (1, 2, 7, 50)
"""Of the histories that an export is tried with, up to what the model reads."""


def exported(model: SequenceModel) -> Mapping[str, bytes]:
    """Return the network of a model as a file, by its name; nothing where it cannot be written, or not be trusted.

    That is: where ``onnx`` and ``onnxscript`` (extra ``torch``) or ONNX Runtime (extra ``train``) are not installed, or
    they disagree with the model. A version without it answers as one with it.
    """
    try:
        network = network_of(model)
        is_right = agrees(model, runner(network))
    except (ExtraMissing, ArtifactInvalid):
        return {}
    return {FILE: network} if is_right else {}


def agrees(model: SequenceModel, run: Run) -> bool:
    """Return whether a network gives the vectors that the arrays of a model give, for histories of several lengths.

    Raises:
        ArtifactInvalid: It cannot be run.
    """
    count = len(model.vocabulary)
    if not count:
        return False
    for length in sorted({min(each, len(model.weights.ages)) for each in LENGTHS}):
        rows = (np.arange(length) * max(1, count // length) % count).astype(np.int32)
        (expected,) = model.history_vectors(Histories.of([rows.tolist()]))
        found = run(model.weights.items[rows])
        # NaN is wrong.
        if found.shape != expected.shape or not np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max():
            return False
    return True


def runner(network: bytes) -> Run:
    """Return what runs a network that was written here, one thread; see ``Run``.

    Raises:
        ExtraMissing: ONNX Runtime is not installed.
        ArtifactInvalid: This is no network, or one that it cannot run; so may what is returned.
    """
    session = Session(network)

    def run(items: Real32) -> Real32:
        found = np.asarray(session.run(["user"], {"items": items})[0], dtype=np.float32)
        return np.asarray(found[0], dtype=np.float32)

    return run


def network_of(model: SequenceModel) -> bytes:
    """Return the network of a model as an ONNX file. Cost: 2 to 5 s of processor time and 0.3 GB.

    Raises:
        ExtraMissing: PyTorch, ``onnx`` or ``onnxscript`` is not installed.
        ArtifactInvalid: PyTorch cannot write it, or has no memory for it.
    """
    torch = library()
    try:
        import onnx  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]  # noqa: F401
        import onnxscript  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]  # noqa: F401
    except (
        ImportError,
        TypeError,
        AttributeError,
    ) as error:  # also where they do not go with the protobuf that is there
        message = "networks are written by onnx and onnxscript: install midstream[torch]"
        raise ExtraMissing(message) from error
    ages, factors = model.weights.ages.shape
    lengths = ({0: torch.export.Dim("m", min=1, max=ages)},) if ages > 1 else None
    try:
        example = torch.zeros(min(2, ages), factors)
        return torch_graph(torch, _network(torch, model), example, ("items", "user"), lengths)
    except _FAILURES as error:
        message = f"the network cannot be written: {error}"
        raise ArtifactInvalid(message) from error


def _network(torch: Any, model: SequenceModel) -> Any:  # noqa: ANN401
    """Return what ``SequenceModel`` computes of one history, as a module without gradients."""

    class Network(torch.nn.Module):  # type: ignore[misc]  # the package is not there where types are checked
        def __init__(self) -> None:
            super().__init__()  # pyright: ignore[reportUnknownMemberType]
            arrays = {name: torch.from_numpy(getattr(model.weights, name)) for name in NAMES if name != "items"}
            self.weights = torch.nn.ParameterDict(arrays)

        def forward(self, items: Any) -> Any:  # noqa: ANN401
            given = items + self.weights["ages"][: items.shape[0]].flip(0)
            return read_places(torch, self.weights, given[None], model.heads, 0.0)[0, -1:]

    return Network().eval().requires_grad_(requires_grad=False)
