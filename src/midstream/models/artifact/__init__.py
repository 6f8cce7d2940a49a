"""A fitted model comes in, verified files go out, and a model is loaded from them."""
