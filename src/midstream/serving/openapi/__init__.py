"""Routes come in, the OpenAPI document and its page go out."""
