"""Comes from a seed, goes to tests, ``init``, ``simulate`` and the demo: a shop, who visits it, what they do."""
