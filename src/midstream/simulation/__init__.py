"""Comes from a seed alone, goes to tests, ``midstream init`` and the demo: a shop, its visitors, what they do."""
