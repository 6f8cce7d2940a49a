"""Export of declared features to feature stores of others, from what ``point_in_time`` reads, for ``cli`` to call."""
