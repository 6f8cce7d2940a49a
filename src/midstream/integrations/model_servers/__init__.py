"""Columns of candidates go to a model server, which runs a model of the shop's own; one number for each comes back."""
