"""Decorators of this folder's kernels; ``events.kernel`` holds them, since decoding has kernels too."""

from midstream.events.kernel import frozen_columns, inlined, intrinsic, is_pending, kernel, optional_kernel, signed

__all__ = ["frozen_columns", "inlined", "intrinsic", "is_pending", "kernel", "optional_kernel", "signed"]
