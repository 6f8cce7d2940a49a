"""Files of any source come in, batches of events go to ``engine`` and invalid rows to dead letters."""
