"""Questions and servers of a shop come from a terminal, answers and reasons are printed."""
