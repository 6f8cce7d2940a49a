"""Bodies of events come in, acknowledged batches go to the engine, refusals to dead letters."""
