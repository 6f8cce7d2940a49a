"""Promotions come from the log, models that answer go into the plans."""
