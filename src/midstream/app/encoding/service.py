"""Wiring of the text encoding: its attributes, the child that encodes, and the file of what was encoded."""

from midstream.app.config.schema import Config
from midstream.app.encoding.worker import encode
from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.engine.vectors.text_cache import TextCache
from midstream.engine.vectors.text_encoding import TextEncoding


def text_encoding_of(config: Config, engine: Engine, data: DataFolder) -> TextEncoding:
    """Return what gives items the vectors of their texts."""
    return TextEncoding(engine, config.encoders, encode, TextCache(data.encoded_texts))
