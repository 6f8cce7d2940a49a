"""Pages of what the engine holds, for operators: items and users by the state, events and served slates by the log."""
