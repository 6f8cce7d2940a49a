"""A placement comes in, the value that it would have had on logged slates goes out, or why that cannot be said."""
