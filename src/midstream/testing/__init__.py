"""Comes from every folder, goes to tests and `cli check` alone: fakes, faults, conformance checks, events."""
