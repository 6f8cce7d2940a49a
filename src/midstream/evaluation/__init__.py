"""State, sources and plans come in and answer queries as in service; figures go out to training's gates and cli."""
