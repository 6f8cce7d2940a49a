"""Import of item models that other programs wrote: an ONNX graph over histories, and the vectors of the items.

The vectors come as a file of NumPy (.npz) with ``ids`` and ``vectors``, row by row. Golden histories are drawn from the
vocabulary, so a version holds no history of anybody. A check that could not fail is none: a graph that gives all of
them one vector is refused, and so is one whose lists do not differ.
"""

from collections import Counter
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile, ZipFile, is_zipfile
from zlib import error as DeflateError  # noqa: N812  the name says nothing

import numpy as np

from midstream.core.errors import ArtifactInvalid, Fault, Invalid, NotFound
from midstream.core.types import Score
from midstream.models.artifact.artifact import NAME, Draft
from midstream.models.artifact.golden import TOLERANCE, item_content, made_histories
from midstream.models.items.onnx_items import KIND, OnnxItems, item_model_of
from midstream.models.onnx.graph import PAGE
from midstream.models.onnx.session import RUNNER, library
from midstream.models.vocabulary import ItemVocabulary
from midstream.training.registry import Registry

MEMBERS = ("ids.npy", "vectors.npy")
VARIED_MIN = 8
"""Golden histories whose vectors differ from the first one's by more than a load allows."""
ID_BYTES_MAX = 1_024
"""Of one id: more than any that an event may have."""
_RIGHT = "A file of numpy.savez(path, ids=…, vectors=…): text or whole numbers (n,), and floats (n, d)."
_FAILURES = (
    BadZipFile, DeflateError, LZMAError, OSError, ValueError, EOFError, LookupError, RuntimeError, MemoryError,
    OverflowError, TypeError, SyntaxError, TokenError,
)  # fmt: skip
"""What zipfile and NumPy raise of a file that is damaged, encrypted or misleading: they have no class in common."""


@dataclass(frozen=True, slots=True)
class OnnxItemsImport:
    """What a graph and a file of vectors become."""

    name: str
    """Of the model."""
    items: Path
    """The file of ids and vectors."""
    last: int = 50
    """Last items of a history that are read; the history of a request has 50 at most."""
    output: str = ""
    """Of the graph; empty = the only one of floats."""
    source: str = ""
    """Where it came from; kept in the options of the version."""


def publish_onnx_items(registry: Registry, content: bytes, wanted: OnnxItemsImport) -> str:
    """Publish an ONNX file with the vectors of its items as a version of a model; return the version.

    Raises:
        NotFound: There is no file of vectors.
        ArtifactTooLarge: They have more bytes than a version may have.
        ArtifactInvalid: It gives no numbers, or the model has no name of ours.
        Invalid: One is no such file, the graph may not be run, or reads no histories of these items: each is named.
        ScoresUnavailable: The graph gives no numbers.
        ExtraMissing: ONNX Runtime is not installed.
        OSError: The disk; nothing remains.
    """
    if not NAME.match(wanted.name):
        said = f"{wanted.name!r}" if wanted.name else "none"
        message = f"say which model the graph becomes a version of: a name of small letters, digits and _, not {said}"
        raise ArtifactInvalid(message)
    vocabulary, vectors = read_items(wanted.items, registry)
    registry.require_size(wanted.name, len(content) + vectors.nbytes + len(vocabulary.text))
    try:
        model, graph = item_model_of(content, vocabulary, vectors, wanted.last, wanted.output)
    except ArtifactInvalid as error:
        right = "A whole file, as an exporter of ONNX wrote it, over histories of these items."
        raise Invalid((Fault(wanted.source or "file", f"It cannot be used: {error}.", right, PAGE),)) from error
    histories = made_histories(len(vocabulary), 0)
    require_varied(model)
    options: dict[str, object] = {
        "source": wanted.source,
        "items": wanted.items.name,
        "last": wanted.last,
        "opsets": {domain or "ai.onnx": version for domain, version in sorted(graph.opsets.items())},
        "nodes": len(graph.nodes),
        "output": model.signature.output,
        "runner_version": str(library().__version__),
    }
    hashed = vocabulary.content_hash
    draft = Draft(name=wanted.name, kind=KIND, runner=RUNNER, vocabulary_hash=hashed, options=options)
    return registry.publish(draft, item_content(model, histories))


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


def read_items(path: Path, registry: Registry) -> tuple[ItemVocabulary, Score]:
    """Return the items of a file and their vectors, after its size was looked at.

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
        if missing := [each for each in MEMBERS if each not in told]:
            raise _no_items(
                path, f"It has no {missing[0].removesuffix('.npy')}; it has: {', '.join(told) or 'nothing'}."
            )
        if len(members) > len(MEMBERS):
            # NumPy would read a member "vectors" in place of "vectors.npy", whose size was looked at.
            names = ", ".join(each.filename for each in members[:20])[:500]
            raise _no_items(path, f"It has more than {' and '.join(MEMBERS)}, each once; it has: {names}.")
        registry.require_size(path.name, sum(told[each] for each in MEMBERS))
        with np.load(path, allow_pickle=False) as arrays:
            ids, vectors = arrays["ids"], arrays["vectors"]
    except _FAILURES as error:
        raise _no_items(path, f"It cannot be read: {' '.join(str(error).split())[:200]}.") from error
    return _vocabulary(path, ids), _vectors(path, vectors, len(ids) if ids.ndim else 0)


def _vocabulary(path: Path, ids: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> ItemVocabulary:
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "Uiu":
        raise _no_items(path, f"ids is {ids.dtype} {ids.shape}.")
    texts = [str(each) for each in ids.tolist()]
    often, count = Counter(texts).most_common(1)[0]
    if count > 1:
        raise _no_items(path, f'The id "{often[:100]}" comes {count} times.')
    for row, each in enumerate(texts):
        if not 0 < len(each.encode("utf-8", "replace")) <= ID_BYTES_MAX:
            raise _no_items(path, f"The id of row {row} has {len(each)} characters.")
    try:
        return ItemVocabulary.of(texts)
    except UnicodeEncodeError as error:
        raise _no_items(path, "An id is no text of UTF-8.") from error


def _vectors(path: Path, vectors: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", count: int) -> Score:
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != count or not vectors.shape[1]:  # noqa: PLR2004
        raise _no_items(path, f"vectors is {vectors.dtype} {vectors.shape}, and there are {count:,} ids.")
    with np.errstate(over="ignore"):
        found: Score = np.ascontiguousarray(vectors, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(bad):
        raise _no_items(path, f"The vector of row {int(bad[0])} has no number, or one too large.")
    return found


def _no_items(path: Path, came: str) -> Invalid:
    return Invalid((Fault(path.name, came, _RIGHT, PAGE),))
