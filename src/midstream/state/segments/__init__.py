"""Events come in, counters of items by segment of users go out."""
