"""Vectors come in, exact products and the best of them go out, the same on every CPU."""
