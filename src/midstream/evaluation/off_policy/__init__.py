"""Logged choices with probabilities come in, values of a policy that never served go out, or why there are none."""
