"""Rows of ``engine.stores`` go to Apache Cassandra, columns of fetches come from there."""
