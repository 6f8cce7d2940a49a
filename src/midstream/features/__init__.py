"""Comes from state and attributes, goes to filters and scorers: what a configuration says about items, as columns."""
