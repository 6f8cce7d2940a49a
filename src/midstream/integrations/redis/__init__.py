"""Rows of ``engine.stores`` go to Redis or Valkey, columns of fetches come from there."""
