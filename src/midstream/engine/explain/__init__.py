"""Request ids come in, explanations made by a child process go out."""
