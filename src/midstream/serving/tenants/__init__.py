"""Requests of one port come in, each goes to the app of its tenant or to the root that manages tenants."""
