"""Trainings and judgements come from a terminal, versions of models and figures are printed."""
