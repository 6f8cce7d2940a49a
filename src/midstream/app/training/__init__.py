"""Examples and histories come in, judged versions of models go to the registry."""
