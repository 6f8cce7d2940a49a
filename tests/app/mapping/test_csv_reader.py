"""A CSV gives exactly its rows, each with the line at which it begins, however it is quoted and its lines end."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.mapping import csv_reader
from midstream.app.mapping.batches import records_in
from midstream.app.mapping.pieces import RowRefused
from midstream.app.mapping.readers import open_rows
from midstream.core.errors import Invalid

HEADER = ["one", "two", "three"]
LINE_END = re.compile("\r\n|\r|\n")
CELLS = st.text('ab\r\n",; é', max_size=8)
QUOTING = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)


def rows_of(path):
    """Return the line and cells of each row, the line and error of each that is refused."""
    found, refused = [], []
    with open_rows(path) as opened:
        for piece in opened.read(None):
            for line, record in records_in(piece):
                if isinstance(record, RowRefused):
                    refused.append((line, record.fault, record.raw))
                else:
                    found.append((line, [str(record[name]) for name in HEADER]))
    return found, refused


def written(rows, line_end, quoting):
    """Return a CSV, and the line at which each row begins, counted in its text."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator=line_end, quoting=quoting)
    writer.writerow(HEADER)
    lines = []
    for row in rows:
        lines.append(1 + len(LINE_END.findall(sink.getvalue())))
        writer.writerow(row)
    return sink.getvalue(), lines


@given(
    st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=40),
    st.sampled_from(["\n", "\r\n", "\r", "\r\r\n"]),
    st.sampled_from(QUOTING),
    st.booleans(),
)
def test_a_csv_gives_its_rows_and_their_lines(tmp_path_factory, drawn, line_end, quoting, is_cut):
    """Over several blocks; rows with too few or too many cells are refused at their line, others come as they are."""
    # csv.writer quotes a line end that is part of its own alone.
    other = {"\n": ("\r", "\n"), "\r": ("\n", "\r")}.get(line_end, ("", ""))
    rows = [[f"r{at}", *(cell.replace(*other) if other[0] else cell for cell in row)] for at, row in enumerate(drawn)]
    text, lines = written(rows, line_end, quoting)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(text.removesuffix(line_end if is_cut else "").encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_reader, "BLOCK_BYTES", 200)
        found, refused = rows_of(path)
    numbered = list(zip(lines, rows, strict=True))
    assert found == [(line, row) for line, row in numbered if len(row) == 3]
    assert [line for line, *_ in refused] == [line for line, row in numbered if len(row) != 3]
    assert [fault.came.split()[0] for _, fault, _ in refused] == [str(len(row)) for row in rows if len(row) != 3]


@pytest.mark.parametrize("line_end", ["\r", "\r\r\n"])
def test_every_row_of_many_blocks_has_a_line_of_its_own(tmp_path, monkeypatch, line_end):
    """Lines that end as csv.writer has them on Windows in text mode, or with a lone CR."""
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 1 << 13)
    count = 3_000
    path = tmp_path / "a.csv"
    path.write_bytes(line_end.join([",".join(HEADER), *(f"r{at},item-{at:09},list" for at in range(count))]).encode())
    found, refused = rows_of(path)
    assert [row[0] for _, row in found] == [f"r{at}" for at in range(count)]
    assert len({line for line, _ in found}) == count
    assert not refused


@pytest.mark.parametrize(
    "rows,line",
    [
        ('a,b,c\nd,"e\ne",f\ng,"h,i\nj,k,l\n', 5),
        ('a,b,c\nd,e,"f\ng,h,i\nj,k,l\n', 3),
        ('a,b,c\nd,e,f\ng,h,i,"j\n', 4),
        ('a,b,c\nd,"' + "e,f,g\n" * 100, 3),
    ],
)
def test_an_open_quote_is_told_at_its_row(tmp_path, monkeypatch, rows, line):
    """Whatever stands behind a quote that nothing closes is one cell: the import ends, and says where it opened."""
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 200)
    path = tmp_path / "a.csv"
    path.write_text(f"one,two,three\n{rows}")
    with pytest.raises(Invalid) as caught:
        rows_of(path)
    (fault,) = caught.value.faults
    assert fault.where == f"a.csv line {line}"
    assert "quote" in fault.came
    assert "doubled" in fault.right


def test_a_quote_that_closes_rows_later_is_refused_at_its_first_line(tmp_path):
    """The row says how many lines it took; what stands behind it is read."""
    path = tmp_path / "a.csv"
    path.write_text('one,two,three\na,"b,c\nd,e,"f"\ng,h,i\n')
    found, ((line, fault, raw),) = rows_of(path)
    assert found == [(4, ["g", "h", "i"])]
    assert (line, fault.came) == (2, "2 cells in 2 lines.")
    assert raw == b'a,"b,c\nd,e,"f"'


def test_bytes_that_are_no_utf8_are_refused_by_row(tmp_path, monkeypatch):
    """A cell of Latin-1 takes its row alone, and the error says UTF-8; a character cut by a block's end is whole."""
    for size in range(7, 40):
        monkeypatch.setattr(csv_reader, "BLOCK_BYTES", size + 30)
        path = tmp_path / "a.csv"
        path.write_bytes(b"one,two,three\na,\xc3\xa9\xe2\x82\xac,c\nd,\xe9t\xe9,f\ng,h\xff\ni,\xf0\x9f\x98\x80,k")
        found, refused = rows_of(path)
        assert found == [(2, ["a", "é€", "c"]), (5, ["i", "😀", "k"])]
        assert [line for line, *_ in refused] == [3, 4]
        assert refused[0][1].where == "line 3: two"
        assert refused[0][1].came == r"'\xe9t\xe9' is no UTF-8."
        assert "UTF-8" in refused[0][1].right
        assert [raw for *_, raw in refused] == [b"d,\xe9t\xe9,f", b"g,h\xff"]


@pytest.mark.parametrize(
    "content,came",
    [
        ("type,user_id\nview,ann\n".encode("utf-16"), "no UTF-8"),
        ("type,user_id\nview,ann\n".encode("utf-16-le"), "no UTF-8"),
        ("type,größe\nview,ann\n".encode("latin-1"), "no UTF-8"),
        (b'type,"user_id\nview,ann\n', "a quote opens that nothing closes"),
        (b'type,"user_id" \nview,ann\n', "expected after"),
        (b"", "0 columns"),
        (b"a,a\n1,2\n", "1 of them distinct"),
    ],
)
def test_a_header_that_is_none_is_told_in_four_parts(tmp_path, content, came):
    """Texts of UTF-16 and Latin-1 too, with the word that helps."""
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(Invalid) as caught:
        rows_of(path)
    (fault,) = caught.value.faults
    assert fault.where == "a.csv line 1"
    assert came in fault.came
    assert came != "no UTF-8" or "UTF-8" in fault.right


def test_a_header_may_have_line_ends_and_a_file_no_rows(tmp_path):
    """Names in quotes, a byte order mark, lines that end with CR alone."""
    path = tmp_path / "a.csv"
    for end in ("\n", "\r\n", "\r"):
        path.write_bytes(b"\xef\xbb\xbf" + f'one;"t{end}o";three{end}1;2;3{end}4;5'.encode())
        with open_rows(path) as opened:
            assert opened.header == ("one", f"t{end}o", "three")
            pieces = [each for piece in opened.read(None) for each in records_in(piece)]
        assert [line for line, _ in pieces] == [3, 4]
        assert pieces[0][1] == {"one": "1", f"t{end}o": "2", "three": "3"}
    path.write_bytes(b"one,two,three")
    assert rows_of(path) == ([], [])
