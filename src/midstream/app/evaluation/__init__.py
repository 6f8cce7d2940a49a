"""Data sets and models come in, evaluations of item models, rankers and placements go to ``cli``."""
