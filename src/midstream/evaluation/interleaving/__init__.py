"""Places of drafted slates and what followed come in, preferences between two rankings with their intervals go out."""
