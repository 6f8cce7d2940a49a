"""Events come in, counters, arrivals and attribute similarity of items go out."""
