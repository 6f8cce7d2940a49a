"""Erased users and retracted imports come in, a rewritten log without them goes into service."""
