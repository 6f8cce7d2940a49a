"""Promotions come from the log, models in service go into the plans."""
