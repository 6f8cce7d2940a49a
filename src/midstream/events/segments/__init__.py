"""Event batches come in, durable frames in segment files go out, and are read from there."""
