"""Requests between processes of one server come in, served records, digests and metrics go out."""
