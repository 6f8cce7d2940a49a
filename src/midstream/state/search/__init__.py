"""Full-text search: words of items from item events in, items that match a query out to retrieval."""
