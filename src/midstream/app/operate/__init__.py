"""A data folder and an operator's command come in, the changed folder and an account of it go out."""
