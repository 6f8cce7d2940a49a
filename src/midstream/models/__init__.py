"""Histories and rows of features become scores: mathematics and artifacts, for retrieval and ranking."""
