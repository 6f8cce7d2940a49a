"""Comes from all folders of the product, goes to tests alone: fakes, faults, conformance checks."""
