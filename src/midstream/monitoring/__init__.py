"""Numbers come from ``engine`` and ``serving``, metrics, logs and health go to the operator."""
