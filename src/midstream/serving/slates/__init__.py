"""Bodies of requests for recommendations come in, slates go out."""
