"""Target of a scorer: the model on a server, its tensors, and how they are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from midstream.integrations.model_servers.exchange import AnswerInvalid, shown

Layout = Literal["matrix", "columns"]
Encoding = Literal["binary", "json"]
NAMES_SHOWN_MAX = 48
"""Characters of the names in the reason of a failure."""


@dataclass(frozen=True, slots=True)
class Target:
    """A model on a server."""

    model: str
    version: str
    input: str
    output: str
    """Empty = the only one."""
    layout: Layout
    encoding: Encoding
    signature: str
    """Of TensorFlow Serving."""

    def is_output(self, name: str, count: int) -> bool:
        """Return whether an output of an answer, one of ``count``, is the wanted one."""
        return name == self.output if self.output else count == 1

    def no_output(self, names: str) -> AnswerInvalid:
        """Return the error of an answer that has other outputs than the wanted one."""
        wanted = f'"{self.output[:32]}" is right' if self.output else "one is right: name it by output"
        return AnswerInvalid(f"outputs {_told(names) or 'none'} came where {wanted}")

    def misfits(
        self, names: Sequence[str], inputs: Mapping[str, tuple[str, Sequence[int]]], outputs: Sequence[str]
    ) -> str:
        """Return what of a model's tensors does not fit; empty = nothing.

        Args:
            names: Of the columns that are sent.
            inputs: Type and shape of each input by its name, -1 = any length.
            outputs: Names of the outputs.
        """
        sent = {self.input: len(names)} if self.layout == "matrix" else dict.fromkeys(names, 1)
        for name, width in sent.items():
            if name not in inputs:
                return f"the model has no input {name}: it has {_told(', '.join(inputs)) or 'none'}"
            kind, shape = inputs[name]
            if kind != "FP32":
                return f"its input {name} is of type {_told(kind)}, and FP32 is sent"
            if len(shape) != 2 or shape[1] not in {-1, width}:  # noqa: PLR2004  rows and columns
                return f"its input {name} has shape {list(shape[:8])}, and rows of {width} numbers are sent"
        if missing := [each for each in inputs if each not in sent]:
            return f"nothing is sent for its input {_told(', '.join(missing))}"
        if self.output and self.output not in outputs:
            return f"the model has no output {self.output}: it has {_told(', '.join(outputs)) or 'none'}"
        return ""


def _told(names: str) -> str:
    """Return the beginning of names that a server gave, on one line."""
    return shown(names[: 4 * NAMES_SHOWN_MAX].encode("utf-8", "replace"))[:NAMES_SHOWN_MAX]
