"""Hopsworks: columns of feature views for fetches, by ``engine``'s connectors, and feature groups that are written."""
