"""Retractions: acts of users out of the log in, events that take them back out to the writer."""
