"""Rejected events come in, a bounded file of them with their reasons goes out, to be sent again."""
