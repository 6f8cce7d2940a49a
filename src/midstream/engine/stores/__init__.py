"""Rows of users and items go out, each fenced by its log position; other services read them in a store of the shop."""
