"""Promoted sums, bins of served items and what followed them come in, the sums of now go out to ``ranking``."""
