"""ONNX graphs as files: read and checked here without a library, and run by ONNX Runtime for ``rows``."""
