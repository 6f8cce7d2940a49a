"""An implementation of a Protocol comes in, a failure goes out with the promise that it violates."""
