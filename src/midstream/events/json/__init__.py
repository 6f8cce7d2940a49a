"""JSON text of clients comes in, event batches go out, and back for an export."""
