"""The exporter of PyTorch beside a thread that parses: asked once more, and no third time."""

from types import SimpleNamespace
from typing import Any

import pytest

from midstream.models.onnx.torch_graph import torch_graph

GRAPH = b"graph"


def library_that_fails(times: int, error: Exception) -> tuple[Any, list[dict[str, object]]]:
    """Return a library whose exporter fails some times, and what it was asked."""
    asked: list[dict[str, object]] = []

    def export(_module: object, _example: object, **options: object) -> Any:
        asked.append(options)
        if len(asked) <= times:
            raise error
        return SimpleNamespace(model_proto=SimpleNamespace(SerializeToString=lambda: GRAPH))

    return SimpleNamespace(onnx=SimpleNamespace(export=export)), asked


@pytest.mark.parametrize("times", [0, 1])
def test_a_parser_that_lost_count_is_asked_again(times: int) -> None:
    """The same question."""
    torch, asked = library_that_fails(times, SystemError("AST constructor recursion depth mismatch"))
    assert torch_graph(torch, None, None, ("rows", "score"), None) == GRAPH
    assert asked == [asked[0]] * (times + 1)


@pytest.mark.parametrize("times, error", [(2, SystemError("again")), (1, RuntimeError("no such operator"))])
def test_what_fails_for_a_reason_of_its_own_is_told(times: int, error: Exception) -> None:
    """A module that cannot be written is tried once."""
    torch, asked = library_that_fails(times, error)
    with pytest.raises(type(error), match=str(error)):
        torch_graph(torch, None, None, ("rows", "score"), None)
    assert len(asked) == times
