"""Comes from state, retrieval and ranking, asked as a request asks them; goes to training's gates as figures."""
