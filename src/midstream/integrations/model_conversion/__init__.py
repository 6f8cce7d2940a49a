"""Fitted models of other libraries come in; ONNX files and trees of ours go out, with the library's own scores."""
