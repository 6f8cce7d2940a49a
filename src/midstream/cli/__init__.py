"""Command lines come from a terminal, one call goes to ``app`` or ``simulation``, its result is printed."""
