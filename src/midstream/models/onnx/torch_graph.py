"""ONNX file of a PyTorch module of one input and one output, by PyTorch's own exporter."""

from collections.abc import Mapping
from typing import Any

OPSET = 18
"""Of the operators that the exporter writes by itself, without a conversion."""


def torch_graph(
    torch: Any,  # noqa: ANN401  the package is not there where types are checked
    module: Any,  # noqa: ANN401
    example: Any,  # noqa: ANN401
    names: tuple[str, str],
    free: tuple[Mapping[int, Any]] | None,
) -> bytes:
    """Return the file of a module. Cost: 2 to 5 s of processor time and 0.3 GB.

    The exporter parses Python. Before 3.11.8 and 3.12.2 Python's parser raises SystemError where another thread parses
    at the same moment (CPython issue 106905), which says nothing of the module: it is then exported once more.

    Args:
        torch: The library.
        module: In evaluation mode.
        example: Of its input.
        names: Of input and output.
        free: Free axes of the input, as the exporter takes them; None = none.

    Raises:
        Exception: Whatever the exporter raises.
    """

    def export() -> Any:  # noqa: ANN401
        return torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[names[0]],
            output_names=[names[1]],
            opset_version=OPSET,
            dynamic_shapes=free,
        )

    try:
        program = export()
    except SystemError as error:
        try:
            program = export()
        except SystemError as again:
            raise again from error
    content: bytes = program.model_proto.SerializeToString()
    return content
