"""Words come from a terminal, one call goes to ``app`` or ``simulation``, what came of it is printed."""
