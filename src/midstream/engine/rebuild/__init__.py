"""A configuration that changes the fold comes in, a state folded anew goes into service."""
