"""Arrow tables and streams come in, event batches go out, and back."""
