"""Orders come from ``serving`` and ``app``, control events and plans in service go to ``engine``."""
