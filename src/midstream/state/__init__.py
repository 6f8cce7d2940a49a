"""Event batches come from ``events``, arrays that answer requests go to ``retrieval`` and ``ranking``."""
