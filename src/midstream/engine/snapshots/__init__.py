"""A state comes in, verified snapshots go out, and the state of a start comes from them."""
