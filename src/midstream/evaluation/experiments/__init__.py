"""Sums per unit by variant come in, intervals, verdicts, plans and shares of experiments go out."""
