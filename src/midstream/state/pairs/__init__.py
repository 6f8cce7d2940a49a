"""Acts of users come in, co-visited items with their weights go out."""
