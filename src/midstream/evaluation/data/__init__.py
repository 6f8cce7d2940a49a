"""Files of public data sets come in, interactions in time order go to the protocols."""
