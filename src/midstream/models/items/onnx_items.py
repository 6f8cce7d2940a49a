"""Item model from elsewhere: an ONNX graph reads a history, and its vector is multiplied with those of the items here.

The graph was trained by any library that writes ONNX, under the rules of the ranker of kind ``onnx``: checked when a
version is read (``models.onnx.rules``), asked about made up histories within a time, and run by ONNX Runtime in this
process, one history at a time. So one history alone has the bits that it has among others. The vectors of items are an
array of the version and not of the graph, so the best of many items are found by our own kernel, as of any model of
factors. Weights of acts are not read.
"""

from dataclasses import dataclass, field
from time import thread_time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, Invalid, ScoresUnavailable
from midstream.core.types import Index, Score
from midstream.models.histories import Histories
from midstream.models.kernels.bf16_index import Halves
from midstream.models.kernels.top_k import inner_products
from midstream.models.model import Arrays, checked
from midstream.models.onnx.graph import DOUBLE, INT32, OnnxGraph, read_graph
from midstream.models.onnx.history_signature import HistorySignature, history_signature_of
from midstream.models.onnx.row_tables import table_faults
from midstream.models.onnx.rules import require_allowed, require_bytes
from midstream.models.onnx.session import RUN_S_MAX, Session
from midstream.models.onnx.signature import narrowed
from midstream.models.vocabulary import ItemVocabulary

KIND: Final = "onnx_items"
LAST_MAX: Final = 500
"""Items of a history, as of the models that are trained here."""
TRIAL_S_MAX = 0.25
"""Processor time of one history of the most items that are read: five times the deadline of a request."""
TRIAL_WALL_S_MAX = 20.0
"""Time after which a trial is ended, on a machine that is busy with other work."""
_WIDTH_MAX = 4_096


@dataclass(frozen=True, slots=True, eq=False)
class OnnxItems:
    """A graph over histories, and vectors of items. See ``ItemModel`` and ``top_n.FactorModel``."""

    vocabulary: ItemVocabulary
    vectors: Score
    """(items, d)."""
    graph: NDArray[np.uint8]
    """The file."""
    signature: HistorySignature
    last: int
    """Last items of a history that are read."""
    _session: Session = field(repr=False)
    _halves: Halves = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Round the items, for the scan."""
        object.__setattr__(self, "_halves", Halves.of(self.vectors))

    def item_vectors(self) -> Score:
        """Return the vector of each item, (items, d)."""
        return self.vectors

    def history_vectors(self, histories: Histories) -> Score:
        """Return the vector of the user of each history, (histories, d), zeros of an empty one.

        Raises:
            ArtifactInvalid: An operator failed, or the graph gives anything else than d numbers.
            ScoresUnavailable: It gives no numbers.
        """
        found = np.zeros((len(histories), self.vectors.shape[1]), dtype=np.float32)
        for number in range(len(histories)):
            rows = histories.part(number, number + 1).row[-self.last :]
            if len(rows):
                found[number] = self._read(rows, RUN_S_MAX)
        return found

    def _read(self, rows: Index, seconds: float) -> Score:
        told = self._session.run([self.signature.output], {self.signature.input: self._asked(rows)}, seconds)[0]
        width = self.vectors.shape[1]
        if not isinstance(told, np.ndarray) or told.dtype.kind != "f" or told.size != width:
            what = f"{told.dtype} {told.shape}" if isinstance(told, np.ndarray) else "a list"
            raise ArtifactInvalid(f"the graph gives {what} for a history, where {width} numbers are right")
        with np.errstate(over="ignore"):
            found: Score = told.reshape(width).astype(np.float32)
        if not np.isfinite(found).all():
            raise ScoresUnavailable("what the graph makes of a history is no number")
        return found

    def _asked(self, rows: Index) -> NDArray[np.generic]:
        """Return a history as the input of the graph."""
        given: NDArray[np.generic]
        if self.signature.takes_rows:
            given = rows.astype(np.int32 if self.signature.element == INT32 else np.int64)
        else:
            given = self.vectors[rows].astype(np.float64 if self.signature.element == DOUBLE else np.float32)
        return given[None] if self.signature.is_batch else given

    def scores(self, histories: Histories) -> Score:
        """Return a score for each history and item; see ``ItemModel``. 0 for all of an empty history."""
        return inner_products(self.history_vectors(histories), self.vectors)

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items of the highest scores of one history; see ``ItemModel``. None of an empty history."""
        return self._halves.top_k(self.history_vectors(history)[0], k if len(history.row) else 0)

    def arrays(self) -> Arrays:
        """Return what ``restore`` makes the same model of, but for the vocabulary."""
        return {
            "onnx_items.vectors": self.vectors,
            "onnx_items.graph": self.graph,
            "onnx_items.output": np.frombuffer(self.signature.output.encode(), dtype=np.uint8),
            "onnx_items.last": np.array([self.last], dtype=np.int64),
        }

    @classmethod
    def restore(cls, vocabulary: ItemVocabulary, arrays: Arrays) -> "OnnxItems":
        """Return the model whose ``arrays`` are among these. Cost: that of the session, and of three histories.

        Raises:
            ArtifactInvalid: They are none, or the graph cannot be run.
            Invalid: The graph is none that may be run, or none over histories of these items.
            ExtraMissing: ONNX Runtime is not installed.
        """
        for name in ("graph", "output"):
            each = arrays.get(f"onnx_items.{name}", np.empty(0))
            if each.dtype.str != "|u1" or each.ndim != 1:
                raise ArtifactInvalid(f"{name} of the item model is missing, or no row of bytes")
        vectors = arrays.get("onnx_items.vectors", np.empty(0))
        shape = (len(vocabulary), vectors.shape[1] if vectors.ndim == 2 else 0)  # noqa: PLR2004
        wanted = {"onnx_items.vectors": ("<f4", shape), "onnx_items.last": ("<i8", (1,))}
        checked(arrays, "the item model", wanted)
        last = int(arrays["onnx_items.last"][0])
        if not (0 < last <= LAST_MAX and shape[0] and 0 < shape[1] <= _WIDTH_MAX):
            raise ArtifactInvalid(f"vectors {shape} and {last} items of a history are no item model")
        graph = arrays["onnx_items.graph"]
        require_bytes(graph.nbytes)
        content = np.ascontiguousarray(graph).view(np.uint8)
        told = read_graph(content.data)
        require_allowed(told)
        signature = history_signature_of(
            told, shape[1], arrays["onnx_items.output"].tobytes().decode("utf-8", "replace")
        )
        real: Score = np.ascontiguousarray(vectors, dtype=np.float32)
        model = cls(vocabulary, real, content, signature, last, Session(content.data))
        model.require_soon()
        return model

    def require_soon(self) -> None:
        """Ask the graph about made up histories: of one item, of two, and of the most, for shapes and time.

        Raises:
            ArtifactInvalid: It gives anything else than d numbers, or takes too long.
            ScoresUnavailable: It gives no numbers.
        """
        for count in sorted({1, min(2, self.last), self.last}):
            # The last rows: a table of the graph that has fewer is found out here.
            rows = (-1 - np.arange(count) % len(self.vocabulary) + len(self.vocabulary)).astype(np.int32)
            before = thread_time()
            self._read(rows, TRIAL_WALL_S_MAX)
            took = thread_time() - before
            if took > TRIAL_S_MAX:
                message = f"the graph takes {took:.2f} s for {count} items, at most {TRIAL_S_MAX} s are right"
                raise ArtifactInvalid(message)


def item_model_of(
    content: bytes, vocabulary: ItemVocabulary, vectors: Score, last: int, output: str = "", *, is_proven: bool = False
) -> tuple[OnnxItems, OnnxGraph]:
    """Return the item model of an ONNX file and its description.

    Args:
        content: The file.
        vocabulary: Of the items, row by row.
        vectors: Theirs, (items, d).
        last: Last items of a history that are read.
        output: Name of its output, where several have floats.
        is_proven: Scores that whoever trained it expects are compared as well: a table of the graph may then be longer
            than the items. Its order is looked at all the same, since few scores may not tell it.

    Raises:
        ArtifactInvalid: It is no ONNX file, or it cannot be run.
        Invalid: It may not be run, or is no graph over histories of these items: each reason is named.
        ScoresUnavailable: It gives no numbers.
        ExtraMissing: ONNX Runtime is not installed.
    """
    require_bytes(len(content))
    graph = read_graph(memoryview(content))
    require_allowed(graph)
    signature = history_signature_of(graph, vectors.shape[1], output)
    own = vectors.astype(np.float32)
    if signature.takes_rows:
        faults = tuple(table_faults(graph, signature.input, vocabulary, own, is_proven=is_proven))
        if faults:
            raise Invalid(faults)
    kept = narrowed(memoryview(content), graph, signature.output)
    arrays: Arrays = {
        "onnx_items.vectors": own,
        "onnx_items.graph": np.frombuffer(kept, dtype=np.uint8),
        "onnx_items.output": np.frombuffer(signature.output.encode(), dtype=np.uint8),
        "onnx_items.last": np.array([last], dtype=np.int64),
    }
    return OnnxItems.restore(vocabulary, arrays), graph
