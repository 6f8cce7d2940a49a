"""Served records and the log come in, features and examples as of each moment go to training and to files."""
