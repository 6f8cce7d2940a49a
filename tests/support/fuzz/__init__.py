"""Comes from one seed, goes to a verdict: a whole engine, its clients, disk and clock in a simulated world."""
