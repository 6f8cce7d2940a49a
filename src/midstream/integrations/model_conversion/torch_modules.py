"""Modules of PyTorch as ONNX files, by PyTorch's own exporter, as they answer: nothing is left out or learned.

A copy on the CPU is exported, so that the module keeps its device and mode.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from midstream.core.errors import ExtraMissing
from midstream.core.types import Score
from midstream.integrations.model_conversion.converted_model import ConvertedModel, Real, converting, last_of

OPSET = 18
"""Of the operators that the exporter writes by itself, without a conversion."""
_EXAMPLE_ROWS = 2
"""Of one row the exporter would make a graph of exactly one row."""


def of_torch(model: Any, columns: Sequence[str]) -> ConvertedModel:  # noqa: ANN401  any module
    """Return a module of one tensor (rows, columns) as an ONNX file. Cost: 2 to 5 s of processor time.

    Raises:
        ExtraMissing: What writes ONNX for PyTorch is not installed.
        Invalid: The exporter cannot write it.
    """
    import torch  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]

    try:
        import onnx  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]  # noqa: F401
        import onnxscript  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]  # noqa: F401
    except ImportError as error:
        message = "modules of PyTorch are written by onnx and onnxscript: install midstream[torch]"
        raise ExtraMissing(message) from error
    library: Any = torch
    with converting(type(model).__name__):
        module = copy.deepcopy(model).to("cpu").eval().requires_grad_(requires_grad=False)
        kind = next((each.dtype for each in module.parameters() if each.is_floating_point()), library.float32)
        program = library.onnx.export(
            module,
            (library.zeros(_EXAMPLE_ROWS, len(columns), dtype=kind),),
            dynamo=True,
            verbose=False,
            input_names=["rows"],
            output_names=["score"],
            opset_version=OPSET,
            dynamic_shapes=({0: library.export.Dim("rows", min=1)},),
        )
        content: bytes = program.model_proto.SerializeToString()

    def predict(values: Score) -> Real:
        with library.no_grad():
            told = module(library.from_numpy(np.array(values)).to(kind))
        return last_of(told.numpy())

    return ConvertedModel(f"torch {library.__version__}", tuple(columns), content, predict)
