"""Messages of brokers come in, exactly once by position; batches go to the ingest service."""
