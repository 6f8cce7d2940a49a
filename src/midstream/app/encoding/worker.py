"""Child process that encodes texts, beside a server at a lower priority."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from midstream.core.errors import MidstreamError
from midstream.core.types import Score
from midstream.engine import child_process
from midstream.models.text_encoder.encoders import load_encoder, spec_of

_MODULE = "midstream.app.encoding.worker"
STALL_S = 120.0
"""Without a text done: the longest takes 0.2 s of a core."""
ONE_THREAD: Final[Mapping[str, str]] = {
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
"""For products of matrices: on a busy machine their threads wait for each other in loops, and 200 words took ten times
the processor's time."""


class EncodingOrder(child_process.WorkOrder, frozen=True):
    """Texts to encode."""

    encoder: str
    texts: tuple[str, ...]


class EncodingFailed(MidstreamError):
    """The child that encodes texts ended without vectors; the text says why."""


def run(order: EncodingOrder, pace: child_process.Pace) -> str:
    """Return the vectors of the texts as base64 of float32, end to end.

    Raises:
        ExtraMissing: The weights are not installed.
        ArtifactInvalid: They are not those that the name stands for.
    """
    encoder = load_encoder(order.encoder)
    found: list[bytes] = []
    for number, text in enumerate(order.texts):
        found.append(encoder.encode((text,)).astype("<f4").tobytes())
        pace.say("encoding", number + 1, len(order.texts))
        pace.rest()
    return b64encode(b"".join(found)).decode()


async def encode(encoder: str, texts: Sequence[str]) -> Score:
    """Return the vectors of texts, (n, width), computed in a child process.

    Raises:
        EncodingFailed: It ended without them.
    """
    order = EncodingOrder(folder="", encoder=encoder, texts=tuple(texts))
    ended = await child_process.run(_MODULE, order, stall_s=STALL_S, variables=ONE_THREAD)
    if not ended.line:
        raise EncodingFailed(ended.reason)
    told = np.frombuffer(b64decode(msgspec.json.decode(ended.line, type=str)), dtype="<f4")
    return told.reshape(len(texts), spec_of(encoder).width).astype(np.float32)


if __name__ == "__main__":
    child_process.main(EncodingOrder, run)
