"""Erased users and retracted imports come in, a log written anew without them goes into service."""
