"""API keys come from a file of the data folder, callers with their scopes go to every route."""
