"""An implementation of a Protocol comes in, a failure names the promise that it does not keep."""
