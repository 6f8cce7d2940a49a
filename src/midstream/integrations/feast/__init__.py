"""Feast: columns of its feature server for fetches, by ``engine``'s connectors, and the tags of exported views."""
