"""Commands for slates, explanations and servers come from a terminal, answers and reasons are printed."""
