"""Structures and arithmetic that several tables are made of: hash tables, windows, decay, top lists."""
