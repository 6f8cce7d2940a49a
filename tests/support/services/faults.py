"""Faults of servers for tests: one that cannot be had here, and one that does not run as it should."""


class ServiceFault(Exception):
    """A server that does not start, answer or end."""


class Unavailable(ServiceFault):
    """A server that this machine lacks: a package that was not fetched, or what it runs on."""
