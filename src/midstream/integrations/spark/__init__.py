"""Functions over record batches come in, DataFrames, a data source and batches of a stream go out."""
