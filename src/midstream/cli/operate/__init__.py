"""Care of a data folder comes from a terminal, what was found and done is printed."""
