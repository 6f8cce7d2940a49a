"""Commands about features come from a terminal, declarations, values and their checks are printed."""
