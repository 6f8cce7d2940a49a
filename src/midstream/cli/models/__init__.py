"""Commands for trainings and evaluations come from a terminal, versions of models and figures are printed."""
