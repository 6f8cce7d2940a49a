"""Questions of a file are asked with the values that a live request sends."""

from contextlib import ExitStack
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midstream.app.point_in_time.requests import of_file
from midstream.core.errors import Invalid

NOW_MS = 1_700_000_000_000


def contexts_of(path):
    """Return the context of each question of a file."""
    with ExitStack() as stack:
        return [each.query.context for chunk in of_file(path, stack).chunks() for each in chunk.questions]


def test_texts_of_a_context_stay_what_they_are(tmp_path):
    """A cell of CSV is the number that it writes, 01067 is none; a typed text is a text, NaN is missing."""
    path = tmp_path / "q.csv"
    path.write_text(f'time,item_id,context.zip,context.n,context\n{NOW_MS},a,01067,12,"{{""page"": ""x""}}"\n')
    assert contexts_of(path) == [{"page": "x", "zip": "01067", "n": 12.0}]
    columns = {
        "time": [NOW_MS] * 2,
        "item_id": ["a", "b"],
        "context.zip": ["01067", "12"],
        "context.price": [Decimal("1.10"), None],
        "context.n": [float("nan"), 2.0],
        "context": [{"page": "x", "n": 1.0}, {"page": None, "n": float("nan")}],
    }
    path = tmp_path / "q.parquet"
    pq.write_table(pa.table(columns), path)
    assert contexts_of(path) == [{"page": "x", "zip": "01067", "price": 1.1}, {"zip": "12", "n": 2.0}]


@pytest.mark.parametrize("text", ["time,item_id,context.n\n1700000000000,a\n", 'time,item_id\n1700000000000,"a\n'])
def test_a_row_that_is_none_is_named_by_its_line(tmp_path, text):
    """Of questions none may be passed by: an answer is a row for a row."""
    path = tmp_path / "q.csv"
    path.write_text(text)
    with pytest.raises(Invalid, match="line 2"):
        contexts_of(path)


def test_lines_without_anything_are_no_questions(tmp_path):
    """Also before the first one, by which it is seen what decides the order of the log."""
    path = tmp_path / "q.csv"
    path.write_text("log_position,item_id\n" + "\n" * 20 + "3,a\n\n")
    with ExitStack() as stack:
        (chunk,) = of_file(path, stack).chunks()
        assert [each.log_position for each in chunk.questions] == [3]
