"""Comes from nowhere, goes everywhere: the types that travel, the Protocols of the parts, the errors."""
