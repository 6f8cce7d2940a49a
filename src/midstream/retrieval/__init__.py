"""State and features come in, proposals of items go out to ranking: one source a file."""
