"""A fitted model comes in, verified files go out, and a model that answers comes from them."""
