"""Import of item models that other programs wrote: an ONNX graph over histories, and the vectors of the items.

The vectors come as a file of NumPy (.npz) with ``ids`` and ``vectors``, row by row, and, beside them, ``histories`` of
these ids with the scores that are ``expected`` of all items. The scores of the graph have to be those, at the import
and at each load, so a table in another order than the ids is found. Other golden histories are drawn from the
vocabulary, so without such a version holds no history of anybody. A check that could not fail is none: a graph that
gives all of them one vector is refused.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from lzma import LZMAError
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile, ZipFile, is_zipfile
from zlib import error as DeflateError  # noqa: N812  the name says nothing

import numpy as np

from midstream.core.errors import ArtifactInvalid, Fault, Invalid, NotFound, ScoresUnavailable
from midstream.core.types import Score
from midstream.models.artifact.artifact import NAME, ArtifactContent, Draft
from midstream.models.artifact.golden import HISTORIES_MAX, TOLERANCE, item_content, made_histories
from midstream.models.histories import Histories
from midstream.models.items.onnx_items import KIND, LAST_MAX, OnnxItems, item_model_of
from midstream.models.onnx.graph import PAGE, OnnxGraph
from midstream.models.onnx.session import RUNNER, library
from midstream.models.vocabulary import ItemVocabulary
from midstream.training.registry import Registry

MEMBERS = ("ids.npy", "vectors.npy")
EXPECTED = ("histories.npy", "expected.npy")
"""Members that may come beside them, both or none."""
HISTORIES_GIVEN_MAX = 1_000
"""Histories with expected scores: all are compared."""
HISTORIES_KEPT_MAX = HISTORIES_MAX // 2
"""Of these, the first, asked again at each load; the other golden histories are made up."""
LENGTH_MAX = 1e9
"""Of a vector: scores of two such are 1e18, and float32 ends at 3e38."""
Given = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
VARIED_MIN = 8
"""Golden histories whose vectors differ from the first one's by more than a load allows."""
ID_BYTES_MAX = 1_024
"""Of one id: more than any that an event may have."""
_RIGHT = "A file of numpy.savez(path, ids=…, vectors=…): text or whole numbers (n,), and floats (n, d)."
_RIGHT_EXPECTED = (
    f'histories (h, items), 1 to {HISTORIES_GIVEN_MAX:,} of them, ids oldest first, "" where one has no more; and '
    "expected (h, n), the finite score of each id."
)
_FAILURES = (
    BadZipFile, DeflateError, LZMAError, OSError, ValueError, EOFError, LookupError, RuntimeError, MemoryError,
    OverflowError, TypeError, SyntaxError, TokenError,
)  # fmt: skip
"""What zipfile and NumPy raise of a file that is damaged, encrypted or misleading: they have no class in common."""


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """Scores that a graph has to give, by whoever trained it."""

    histories: Histories
    scores: Score
    """(histories, items)."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemFile:
    """What a file of items holds."""

    vocabulary: ItemVocabulary
    vectors: Score
    """(items, d)."""
    expected: Expected | None = None


@dataclass(frozen=True, slots=True)
class OnnxItemsImport:
    """What a graph and the vectors of items become."""

    name: str
    """Of the model."""
    last: int = 50
    """Last items of a history that are read; the history of a request has 50 at most."""
    output: str = ""
    """Of the graph; empty = the only one of floats."""
    source: str = ""
    """Where it came from; kept in the options of the version."""
    items: str = ""
    """Where the vectors came from, likewise."""
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    """What else a version says of how it was made."""


def publish_onnx_items(registry: Registry, content: bytes, items: Path, wanted: OnnxItemsImport) -> str:
    """Publish an ONNX file with the file of its items as a version of a model; return the version.

    Raises:
        NotFound: There is no file of vectors.
        ArtifactTooLarge: They have more bytes than a version may have.
        ArtifactInvalid: The model has no name of ours.
        Invalid: One is no such file, the graph gives no numbers, may not be run, reads no histories of these items, or
            scores otherwise than is expected: each is named.
        ExtraMissing: ONNX Runtime is not installed.
        OSError: The disk; nothing remains.
    """
    if not NAME.match(wanted.name):
        said = f"{wanted.name!r}" if wanted.name else "none"
        message = f"say which model the graph becomes a version of: a name of small letters, digits and _, not {said}"
        raise ArtifactInvalid(message)
    told = read_items(items, registry)
    registry.require_size(wanted.name, len(content) + told.vectors.nbytes + len(told.vocabulary.text))
    try:
        model, graph = item_model_of(
            content, told.vocabulary, told.vectors, wanted.last, wanted.output, is_proven=told.expected is not None
        )
    except (ArtifactInvalid, ScoresUnavailable) as error:
        right = "A whole file, as an exporter of ONNX wrote it, over histories of these items."
        raise Invalid((Fault(wanted.source or "file", f"It cannot be used: {error}.", right, PAGE),)) from error
    if told.expected is not None:
        require_expected(model, told.expected, items.name)
    return publish_item_model(registry, model, graph, wanted, told.expected)


def publish_item_model(
    registry: Registry, model: OnnxItems, graph: OnnxGraph, wanted: OnnxItemsImport, expected: Expected | None = None
) -> str:
    """Publish an item model that was read, its first expected scores among its golden ones; return the version.

    Raises:
        ArtifactTooLarge: It has more bytes than a version may have.
        Invalid: The graph makes the same of every history, or its scores are no numbers.
        OSError: The disk; nothing remains.
    """
    require_varied(model)
    options: dict[str, object] = {
        "source": wanted.source,
        "items": wanted.items,
        "last": wanted.last,
        "opsets": {domain or "ai.onnx": version for domain, version in sorted(graph.opsets.items())},
        "nodes": len(graph.nodes),
        "output": model.signature.output,
        "reads": "rows" if model.signature.takes_rows else "vectors",
        "expected_histories": 0 if expected is None else len(expected.histories),
        "runner_version": str(library().__version__),
        **wanted.options,
    }
    hashed = model.vocabulary.content_hash
    draft = Draft(name=wanted.name, kind=KIND, runner=RUNNER, vocabulary_hash=hashed, options=options)
    return registry.publish(draft, _content(model, expected))


def _content(model: OnnxItems, expected: Expected | None) -> ArtifactContent:
    """Return what is written of a model, expected scores as they came among its golden ones.

    The largest of each expected history is kept in any case: the tolerance goes by it, as at the import.

    Raises:
        Invalid: Its scores are no numbers.
    """
    asked, kept, largest = made_histories(len(model.vocabulary), 0), 0, np.empty(0, dtype=np.int64)
    if expected is not None:
        kept = min(len(expected.histories), HISTORIES_KEPT_MAX)
        asked = _joined(expected.histories.part(0, kept), asked.part(0, HISTORIES_MAX - kept))
        largest = np.argmax(np.abs(expected.scores[:kept]), axis=1)
    content = item_content(model, asked, rows=largest)
    scores = np.array(content.arrays["golden.scores"], dtype=np.float32)
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        item = model.vocabulary.id_of(int(content.arrays["golden.items"][bad[0][1]]))
        came = f'The score of "{item}" after a made up history is no number, or too large for one of float32.'
        right = "A vector of the user whose product with each item's is a number: a length of 1, such as cosines have."
        raise Invalid((Fault("graph.output", came, right, PAGE),))
    if expected is not None:
        scores[:kept] = expected.scores[:kept, content.arrays["golden.items"].astype(np.int64)]
    return ArtifactContent({**content.arrays, "golden.scores": scores}, content.files)


def _joined(first: Histories, second: Histories) -> Histories:
    start = np.concatenate([first.start, second.start[1:] + first.start[-1]]).astype(np.int64)
    rows = np.concatenate([first.row, second.row]).astype(np.int32)
    return Histories(rows, np.concatenate([first.weight, second.weight]).astype(np.float32), start)


def require_expected(model: OnnxItems, expected: Expected, where: str, tolerance: float = TOLERANCE) -> float:
    """Return the largest difference from expected scores, as a part of the largest score of a history.

    Args:
        model: Asked about all histories.
        expected: What it has to give.
        where: Of a fault.
        tolerance: The largest difference that is none.

    Raises:
        Invalid: There is a larger one; the item that a history ends with, and the one that is scored, are named.
    """
    largest = 0.0
    for number in range(len(expected.histories)):
        history = expected.histories.part(number, number + 1)
        found, right = model.scores(history)[0].astype(np.float64), expected.scores[number].astype(np.float64)
        scale = float(np.abs(right).max())
        apart = np.abs(found - right)
        worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        if not apart[worst] <= tolerance * scale:
            names = model.vocabulary
            came = (
                f'After history {number}, which ends with "{names.id_of(int(history.row[-1]))}", '
                f'"{names.id_of(worst)}" has the score {found[worst]:.9g}, and {right[worst]:.9g} is expected.'
            )
            wanted = (
                "The graph's own table and the vectors in the order of the ids, and as a score the product of the "
                f"user's vector and the item's, to {tolerance:g} of the largest, {scale:.6g}."
            )
            raise Invalid((Fault(where, came, wanted, PAGE),))
        largest = max(largest, float(apart[worst]) / (scale or 1.0))
    return largest


def require_varied(model: OnnxItems) -> None:
    """Refuse a graph that makes the same of every history.

    Raises:
        Invalid: It does.
    """
    found = model.history_vectors(made_histories(len(model.vocabulary), 0)).astype(np.float64)
    apart = np.abs(found - found[0]).max(axis=1) > TOLERANCE * np.abs(found).max()
    if np.count_nonzero(apart) < min(VARIED_MIN, len(model.vocabulary) - 1):
        came = f"{len(found)} made up histories have one vector, whatever their items are."
        raise Invalid((Fault("graph.output", came, "A graph that reads the history.", PAGE),))


def read_items(path: Path, registry: Registry) -> ItemFile:
    """Return the items of a file, their vectors and what is expected of them, after its size was looked at.

    Raises:
        NotFound: There is no such file.
        ArtifactTooLarge: It unpacks to more bytes than a version may have.
        Invalid: It is no file of ids and vectors.
    """
    if not path.is_file():
        message = f"{path} is no file"
        raise NotFound(message)
    try:
        if not is_zipfile(path):
            raise _no_items(path, "It is no .npz file.")
        with ZipFile(path) as packed:
            members = packed.infolist()
        told = {each.filename: each.file_size for each in members}
        right = MEMBERS if told.keys().isdisjoint(EXPECTED) else (*MEMBERS, *EXPECTED)
        if missing := [each for each in right if each not in told]:
            raise _no_items(
                path, f"It has no {missing[0].removesuffix('.npy')}; it has: {', '.join(told) or 'nothing'}."
            )
        if len(members) > len(right):
            # NumPy would read a member "vectors" in place of "vectors.npy", whose size was looked at.
            names = ", ".join(each.filename for each in members[:20])[:500]
            raise _no_items(path, f"It has more than {' and '.join(right)}, each once; it has: {names}.")
        registry.require_size(path.name, sum(told[each] for each in right))
        with np.load(path, allow_pickle=False) as arrays:
            read = {each: arrays[each.removesuffix(".npy")] for each in right}
    except _FAILURES as error:
        raise _no_items(path, f"It cannot be read: {' '.join(str(error).split())[:200]}.") from error
    vocabulary = item_ids(read["ids.npy"], path.name)
    vectors = item_vectors(read["vectors.npy"], len(vocabulary), path.name)
    if right == MEMBERS:
        return ItemFile(vocabulary, vectors)
    return ItemFile(vocabulary, vectors, _expected(path, vocabulary, *(read[each] for each in EXPECTED)))


def item_ids(ids: Given, where: str, right: str = _RIGHT) -> ItemVocabulary:
    """Return ids (n,) as a vocabulary; ``where`` and ``right`` are of a fault.

    Raises:
        Invalid: They are no text and no whole numbers, or one comes twice, is empty or too long.
    """

    def fault(came: str) -> Invalid:
        return Invalid((Fault(where, came, right, PAGE),))

    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "Uiu":
        raise fault(f"ids is {ids.dtype} {ids.shape}.")
    texts = [str(each) for each in ids.tolist()]
    often, count = Counter(texts).most_common(1)[0]
    if count > 1:
        raise fault(f'The id "{often[:100]}" comes {count} times.')
    for row, each in enumerate(texts):
        if not 0 < len(each.encode("utf-8", "replace")) <= ID_BYTES_MAX:
            raise fault(f"The id of row {row} has {len(each)} characters.")
    try:
        return ItemVocabulary.of(texts)
    except UnicodeEncodeError as error:
        raise fault("An id is no text of UTF-8.") from error


def item_vectors(vectors: Given, count: int, where: str, right: str = _RIGHT) -> Score:
    """Return vectors (count, d) as float32; ``where`` and ``right`` are of a fault.

    Raises:
        Invalid: They are no such floats, or one has no number or is longer than ``LENGTH_MAX``; its row is named.
    """

    def fault(came: str) -> Invalid:
        return Invalid((Fault(where, came, right, PAGE),))

    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != count or not vectors.shape[1]:  # noqa: PLR2004
        raise fault(f"vectors is {vectors.dtype} {vectors.shape}, and there are {count:,} ids.")
    with np.errstate(over="ignore"):
        found: Score = np.ascontiguousarray(vectors, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(bad):
        raise fault(f"The vector of row {int(bad[0])} has no number, or one too large.")
    require_lengths(found, where)
    return found


def require_lengths(vectors: Score, where: str) -> None:
    """Refuse vectors whose products could be no numbers of float32.

    Raises:
        Invalid: One is longer than ``LENGTH_MAX``; its row is named.
    """
    exact = vectors.astype(np.float64)
    length = np.sqrt(np.einsum("ij,ij->i", exact, exact))
    bad = np.flatnonzero(length > LENGTH_MAX)
    if len(bad):
        came = f"The vector of row {int(bad[0])} has a length of {length[bad[0]]:.3g}."
        raise Invalid((Fault(where, came, f"At most {LENGTH_MAX:g}: divide all vectors by one number.", PAGE),))


def _expected(path: Path, vocabulary: ItemVocabulary, told: Given, scores: Given) -> Expected:
    """Return the histories of a file as rows, and their expected scores.

    Raises:
        Invalid: They are none of these items.
    """
    if told.ndim != 2 or told.dtype.kind not in "Uiu" or not 0 < len(told) <= HISTORIES_GIVEN_MAX:  # noqa: PLR2004
        raise _no_expected(path, f"histories is {told.dtype} {told.shape}.")
    if scores.dtype.kind != "f" or scores.shape != (len(told), len(vocabulary)):
        came = f"expected is {scores.dtype} {scores.shape}, for {len(told):,} histories and {len(vocabulary):,} ids."
        raise _no_expected(path, came)
    rows, found = {each: row for row, each in enumerate(vocabulary.ids)}, list[list[int]]()
    for number, line in enumerate(told.tolist()):
        history = [str(each) for each in line if each != ""]
        if unknown := [each for each in history if each not in rows]:
            raise _no_expected(path, f'History {number} has "{unknown[0][:100]}", which is not among the ids.')
        if not 0 < len(history) <= LAST_MAX:
            raise _no_expected(path, f"History {number} has {len(history)} items, and 1 to {LAST_MAX} are read.")
        found.append([rows[each] for each in history])
    with np.errstate(over="ignore"):
        exact = scores.astype(np.float32)
    bad = np.argwhere(~np.isfinite(exact))
    if len(bad):
        item = vocabulary.id_of(int(bad[0][1]))
        raise _no_expected(path, f'The expected score of "{item}" after history {int(bad[0][0])} is no number.')
    return Expected(Histories.of(found), exact)


def _no_expected(path: Path, came: str) -> Invalid:
    return Invalid((Fault(path.name, came, _RIGHT_EXPECTED, PAGE),))


def _no_items(path: Path, came: str) -> Invalid:
    return Invalid((Fault(path.name, came, _RIGHT, PAGE),))
