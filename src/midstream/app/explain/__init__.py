"""A request id comes in, its rerun and explanation go out, from a process of its own."""
