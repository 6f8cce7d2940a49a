"""Programs of expressions come in, columns for all candidates go out."""
