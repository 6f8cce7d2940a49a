"""Modules of PyTorch as ONNX files, by PyTorch's own exporter, as they answer: nothing is left out or learned.

A copy on the CPU is exported, so that the module keeps its device and mode. Of float16 and bfloat16 the copy is one of
float32: the numbers of its parameters are the same, and ONNX Runtime has no such products on a CPU.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from midstream.core.errors import ExtraMissing, Fault, Invalid
from midstream.core.types import Score
from midstream.integrations.model_conversion.converted_model import (
    FAILURES,
    NETWORK_TOLERANCE,
    PAGE,
    ConvertedEncoder,
    ConvertedModel,
    Real,
    converting,
    last_of,
)
from midstream.models.onnx.torch_graph import torch_graph

_EXAMPLE_ROWS = 2
"""Of one row the exporter would make a graph of exactly one row."""
_EXAMPLE_ITEMS = (3, 2)
"""Lengths of histories by which an encoder is tried: what has as many numbers for both is a vector of the user."""
_RIGHT = "One tensor of floats, a number a row: [rows] or [rows, 1]; or [rows, 2], the probabilities of two classes."
_ROWS_MAX_AXES = 2


def of_torch(model: Any, columns: Sequence[str]) -> ConvertedModel:  # noqa: ANN401  any module
    """Return a module of one tensor (rows, columns) as an ONNX file. Cost: 2 to 5 s of processor time.

    Raises:
        ExtraMissing: What writes ONNX for PyTorch is not installed.
        Invalid: The exporter cannot write it, or it gives anything else than one tensor of a number a row.
    """
    torch, what = _library(), type(model).__name__
    with converting(what):
        module, kind = _copied(torch, model)
        example = torch.zeros(_EXAMPLE_ROWS, len(columns), dtype=kind)
        with torch.no_grad():
            told = module(example)
    _require_numbers(torch, only_of(told), what)
    with converting(what):
        content = torch_graph(torch, module, example, ("rows", "score"), _free(torch, "rows", 0))

    def predict(values: Score) -> Real:
        with torch.no_grad():
            told = only_of(module(torch.from_numpy(np.array(values)).to(kind)))
        return last_of(told.float().numpy() if told.dtype in _halves(torch) else told.numpy())

    return ConvertedModel(f"torch {torch.__version__}", tuple(columns), content, predict, NETWORK_TOLERANCE)


def of_encoder(model: Any, vectors: Score) -> ConvertedEncoder:  # noqa: ANN401  any module
    """Return a module that makes a user's vector of a history as an ONNX file. Cost: 2 to 10 s of processor time.

    It takes the rows of the items, oldest first, [1, items] or [items], or their vectors, [1, items, d] or [items, d]:
    the first of these for which it gives d numbers.

    Args:
        model: The module.
        vectors: Of the items, (items, d), float32.

    Raises:
        ExtraMissing: What writes ONNX for PyTorch is not installed.
        Invalid: It gives no vector of d numbers in any of these ways, or the exporter cannot write it.
    """
    torch, what = _library(), type(model).__name__
    with converting(what):
        module, kind = _copied(torch, model)
    tables = {"rows": None, "vectors": torch.from_numpy(np.array(vectors)).to(kind)}
    reasons = list[str]()
    for reads, is_batch in (("rows", True), ("rows", False), ("vectors", True), ("vectors", False)):
        table = tables[reads]

        def asked(rows: Any, table: Any = table, is_batch: bool = is_batch) -> Any:  # noqa: ANN401, FBT001
            given = torch.from_numpy(np.array(rows, dtype=np.int64))
            given = given if table is None else table[given]
            return given[None] if is_batch else given

        reason = _no_vector(torch, module, [asked(_example(len(vectors), count)) for count in _EXAMPLE_ITEMS], vectors)
        if reason:
            reasons.append(
                f"{'[1, items' if is_batch else '[items'}{'' if table is None else ', d'}] of {reads}: {reason}"
            )
            continue
        with converting(what):
            example = asked(_example(len(vectors), _EXAMPLE_ITEMS[0]))
            content = torch_graph(torch, module, example, ("items", "user"), _free(torch, "items", int(is_batch)))

        def read(rows: Any, asked: Any = asked) -> Real:  # noqa: ANN401
            with torch.no_grad():
                told = only_of(module(asked(rows)))
            return np.asarray(told.double().numpy(), dtype=np.float64).reshape(-1)

        return ConvertedEncoder(f"torch {torch.__version__}", content, read)
    width = vectors.shape[1]
    came = f"{what} makes no vector of {width} numbers of a history. {'. '.join(reasons)}."
    right = f"A module whose forward takes a history in one of these forms and gives {width} floats, as the items have."
    raise Invalid((Fault("encoder", came, right, PAGE),))


def only_of(told: Any) -> Any:  # noqa: ANN401  what a module gave
    """Return the one tensor that a module gave, alone or in a tuple, list or dict of one.

    Raises:
        Invalid: It gave several, none, or anything else.
    """
    kind: str = type(told).__name__
    parts: list[Any] = [told]
    if isinstance(told, Mapping):
        parts = [*cast("Mapping[str, Any]", told).values()]
    elif isinstance(told, tuple | list):
        parts = [*cast("Sequence[Any]", told)]
    if len(parts) == 1 and hasattr(parts[0], "numel"):
        return parts[0]
    count = "" if parts and parts[0] is told else f" of {len(parts)}"
    raise Invalid((Fault("model", f"It gives a {kind}{count}.", _RIGHT, PAGE),))


def _require_numbers(torch: Any, told: Any, what: str) -> None:  # noqa: ANN401
    """Refuse what is no number a row.

    Raises:
        Invalid: It is none.
    """
    shape = tuple(told.shape)
    is_right = 0 < len(shape) <= _ROWS_MAX_AXES and shape[0] == _EXAMPLE_ROWS and told.is_floating_point()
    if not is_right or told.dtype in _halves(torch):
        kind = str(told.dtype).removeprefix("torch.")
        came = f"{what} gives {kind} {list(shape)} for {_EXAMPLE_ROWS} rows."
        raise Invalid((Fault("model", came, _RIGHT.replace("floats", "float32 or float64"), PAGE),))


def _no_vector(torch: Any, module: Any, examples: Sequence[Any], vectors: Score) -> str:  # noqa: ANN401
    """Return why a module makes no vector of d floats of some histories; empty = it does."""
    for example in examples:
        try:
            with torch.no_grad():
                told = only_of(module(example))
        except Invalid as error:
            return error.faults[0].came.rstrip(".")
        except FAILURES as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        if told.numel() != vectors.shape[1] or not told.is_floating_point():
            return f"{str(told.dtype).removeprefix('torch.')} {list(told.shape)}"
    return ""


def _example(items: int, count: int) -> list[int]:
    """Return a history of so many items, the last row of all among them."""
    return [(items - 1 + each) % items for each in range(count)]


def _halves(torch: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return torch.float16, torch.bfloat16


def _copied(torch: Any, model: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Return a copy as it answers, on the CPU, and the type of its numbers: float32, or float64."""
    module = copy.deepcopy(model).to("cpu").eval().requires_grad_(requires_grad=False)
    kind = next((each.dtype for each in module.parameters() if each.is_floating_point()), torch.float32)
    if kind in _halves(torch):
        module, kind = module.float(), torch.float32
    return module, kind


def _free(torch: Any, name: str, axis: int) -> tuple[Mapping[int, Any]]:  # noqa: ANN401
    """Return a free axis of an input, as the exporter takes it."""
    return ({axis: torch.export.Dim(name, min=1)},)


def _library() -> Any:  # noqa: ANN401
    """Return PyTorch, with what writes ONNX for it.

    Raises:
        ExtraMissing: One of them is not installed.
    """
    try:
        import onnx  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]  # noqa: F401
        import onnxscript  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]  # noqa: F401
        import torch  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        message = "modules of PyTorch are written by onnx and onnxscript: install midstream[torch]"
        raise ExtraMissing(message) from error
    library: Any = torch
    return library
