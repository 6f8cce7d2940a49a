"""A data folder comes in, views of it for a reader go out; nothing is changed."""
