"""Old segments come in, Parquet files of history go out, and what is too old is removed."""
