"""Escaping of CSV cells that a spreadsheet would evaluate as a formula, and its inverse.

An id may be ``=HYPERLINK(...)``; a spreadsheet would evaluate it. Such a text gets an apostrophe in front, which
spreadsheets show as text. Texts that begin with apostrophes before such a character get one more, so that removing one
restores the text. Numbers in columns of numbers are no texts: -5 stays -5.

Reference: OWASP, CSV Injection.
"""

from typing import Any, BinaryIO

import pyarrow.compute
import pyarrow.csv

from midstream.events.loose_arrow import Batch, DataType, Schema, pa, pt

pc: Any = pyarrow.compute
_UNSEEN = (
    *(*range(0x21), *range(0x7F, 0xA1), 0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x1680, 0x180E),
    *(*range(0x2000, 0x2010), *range(0x2028, 0x2030), *range(0x205F, 0x2070), 0x3000, 0x3164),
    *(*range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0),
)
_BLANKS = "".join(map(chr, _UNSEEN))
"""Spaces, controls and characters of no width: some programs take them away before they look at a cell."""
_SIGNS = r"=+\-@" + "".join(map(chr, (0xFF1D, 0xFF0B, 0xFF0D, 0xFF20, 0xFE66, 0xFE62, 0xFE63, 0xFE6B, 0x2212)))
"""What begins a formula, also in its wide and small forms and as the sign of minus."""
_BEGINS = f"'*(?:[{_BLANKS}]*[{_SIGNS}]|[\t\r\n])"
"""What makes a text a formula, behind any apostrophes."""
_PLAIN, _ESCAPED = f"^({_BEGINS})", f"^'({_BEGINS})"


class CsvTable:
    """A CSV written by tables of one schema, its texts and the names of its columns escaped."""

    def __init__(self, file: BinaryIO, schema: Schema) -> None:
        """Write the header."""
        names = _escaped(pa.array(schema.names, pa.string())).to_pylist()
        fields = [each.with_name(name) for each, name in zip(schema, names, strict=True)]
        self._schema: Any = pa.schema(fields)
        self._csv: Any = pyarrow.csv.CSVWriter(file, self._schema)

    def write_batch(self, batch: Batch) -> None:
        """Write the rows of a record batch."""
        columns = [_escaped(each) if _is_text(each.type) else each for each in batch.columns]
        self._csv.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def write_table(self, table: Any) -> None:  # noqa: ANN401  a pa.Table
        """Write the rows of a table."""
        for batch in table.to_batches():
            self.write_batch(batch)

    def close(self) -> None:
        """Write what is left; the file stays open."""
        self._csv.close()


def unescaped(table: Batch) -> Batch:
    """Return a record batch as it was before its texts were escaped.

    Example:
        >>> unescaped(pa.RecordBatch.from_pydict({"id": ["'=1+1", "''-x", "'tis", "-5"]}))["id"].to_pylist()
        ['=1+1', "'-x", "'tis", '-5']
    """
    columns = [
        pc.replace_substring_regex(each, _ESCAPED, r"\1") if _is_text(each.type) else each for each in table.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=table.schema.names)


def _is_text(kind: DataType) -> bool:
    inner: DataType = kind.value_type if pt.is_dictionary(kind) else kind
    return bool(pt.is_string(inner) or pt.is_large_string(inner) or pt.is_string_view(inner))


def _escaped(column: Any) -> Any:  # noqa: ANN401  an array of texts
    if pt.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, _escaped(column.dictionary))
    return pc.replace_substring_regex(column, _PLAIN, r"'\1")
