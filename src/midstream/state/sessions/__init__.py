"""Events come in, open sessions and the index of closed ones go out."""
