"""Requests over HTTP and from Python come in, checked values with bounds, or faults in words, go to the answers."""
