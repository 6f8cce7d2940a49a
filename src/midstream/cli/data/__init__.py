"""Files of events come from a terminal, go into the log and come out of it."""
