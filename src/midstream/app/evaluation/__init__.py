"""Data sets and models come in, judgements of item models, rankers and placements by protocols go to ``cli``."""
