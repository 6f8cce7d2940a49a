"""Events and queries come from ``serving`` and the Python API; only from here are the log and the fold changed."""
