"""A plan as numbers, and the kernel that runs it: from the bytes of a question to those of a slate and its record."""
