"""The state's items come in, indexes of their vectors and vectors of their texts go out."""
