"""Events come in, the numbers that declared features need go out, by key."""
