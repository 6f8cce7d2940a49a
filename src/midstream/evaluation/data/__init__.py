"""Files of interactions come in, tables in time order go to the protocols."""
