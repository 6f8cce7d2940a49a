"""Documents that a server answers with: serving encodes them, clients decode them."""
