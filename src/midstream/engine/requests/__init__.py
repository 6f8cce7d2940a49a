"""Requests as callers make them, over HTTP and from Python: types with bounds, and faults in words; to the answers."""
