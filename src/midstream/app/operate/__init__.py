"""A data folder and an operator's command come in, the changed folder and a report go out."""
