"""Sealed segments come in, Parquet files and their manifest go out, and events are read from them."""
