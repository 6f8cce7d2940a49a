"""Texts come in, vectors of a pretrained encoder go out; the weights are those of an installed package."""
