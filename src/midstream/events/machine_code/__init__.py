"""Machine code of kernels on disk: from the compiler, in processes side by side, to every later start."""
