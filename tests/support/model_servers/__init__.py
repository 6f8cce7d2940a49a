"""Fake model servers that answer well or as badly as they are told to; messages by the library of protocol buffers."""
