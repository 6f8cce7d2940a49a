"""API keys come from commands and files of a folder, changed keys and their views go out."""
