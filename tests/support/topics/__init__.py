"""Topics that tests fill, cut, grow and make anew, on a broker in memory and on real ones."""
