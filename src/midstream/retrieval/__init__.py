"""Comes from state and features, goes to ranking: the sources, each of which proposes items."""
