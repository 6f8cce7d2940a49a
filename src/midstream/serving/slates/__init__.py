"""Questions come in as bodies, slates go out."""
