"""Stand-ins for the engine and its parts that keep the same promises, for tests of what calls them."""
