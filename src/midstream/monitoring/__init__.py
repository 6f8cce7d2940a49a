"""Plain numbers come from ``engine`` and ``serving``, metrics and health go to the operator."""
