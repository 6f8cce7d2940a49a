"""Decorators of this folder's kernels; ``events.kernel`` holds them, since decoding has kernels too."""

from midstream.events.kernel import frozen_columns, intrinsic, kernel, signed

__all__ = ["frozen_columns", "intrinsic", "kernel", "signed"]
