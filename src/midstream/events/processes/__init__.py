"""Processes beside an event loop: programs come in, started processes with their pipes go out, and ids name them."""
