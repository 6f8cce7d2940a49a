"""A request id comes in, its answer of then and the reasons for it go out, from a process of its own."""
