"""Files of others come in, batches of events go to ``engine`` and rows that are none to dead letters."""
