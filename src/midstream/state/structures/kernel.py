"""What the kernels of this folder are made with; ``events.kernel`` holds it, since decoding has kernels too."""

from midstream.events.kernel import frozen_columns, intrinsic, kernel, signed

__all__ = ["frozen_columns", "intrinsic", "kernel", "signed"]
