"""Committed types of the TypeScript client have the schemas and fields of the server's document, seen without Node."""

import re
from pathlib import Path

from midstream.serving.app import described

TYPES = Path(__file__).parents[2] / "clients" / "typescript" / "src" / "schema.ts"


def test_schemas_and_their_fields_are_those_of_the_document():
    """A schema that is changed and not written anew is named: scripts/typescript-types writes them."""
    text = TYPES.read_text("utf-8")
    blocks = re.split(r"^        (\w+): ", text, flags=re.MULTILINE)[1:]
    written = dict(zip(blocks[::2], blocks[1::2], strict=True))
    schemas = described()["components"]["schemas"]
    assert set(written) == set(schemas)
    stale = {
        name: missing
        for name, schema in schemas.items()
        if (
            missing := [each for each in schema.get("properties", ()) if not re.search(rf"\b{each}\??:", written[name])]
        )
    }
    assert stale == {}
