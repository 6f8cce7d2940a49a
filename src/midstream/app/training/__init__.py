"""Examples and histories come in, evaluated versions of models go to the registry."""
