"""Files of events come from a terminal, the log takes them and is exported to files."""
