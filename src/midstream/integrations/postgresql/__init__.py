"""Rows of ``engine.stores`` go to PostgreSQL, columns of fetches come from there."""
