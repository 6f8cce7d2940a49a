"""A moment and a query come in, columns for all candidates go out."""
