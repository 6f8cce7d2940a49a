"""One setting changed in a file that people wrote: comments stay, and nothing is written that reads otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.editor import with_blend, write_blend
from midstream.app.config.reader import parse_config
from midstream.app.config.template import template
from midstream.core.errors import Invalid

WEIGHTS = {"session_knn": 0.8125, "trending": 0.1, "popular": 0.0875}
LAYOUTS = {
    "empty": "",
    "no placement": "# ours\n[items]\nunknown_items = 'hold'\n",
    "one": "[[placements]]\nname = 'default'  # the start page\n",
    "weights there": "[[placements]]\nname = 'default'\n  weights = { trending = 0.5 }  # by hand\nslate_size = 5\n",
    "two": "[[placements]]\nname = 'other'\n\n# this one\n[[placements]]\nname = 'default'\nslate_size = 7\n",
    "sources as tables": "[[placements]]\nname = 'default'\n[[placements.sources]]\nkind = 'session_knn'\n"
    "[[placements.sources]]\nkind = 'trending'\n[log]\nsegment_bytes_max = 2_000_000\n",
    "template": template(),
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_only_the_blend_changes(layout):
    """The new text says what the old one said but for the two settings, and keeps every comment."""
    text = LAYOUTS[layout]
    changed = parse_config(with_blend(text, "default", WEIGHTS, 10.0))
    mine = next(each for each in changed.placements if each.name == "default")
    assert (mine.weights, mine.rank_offset) == (WEIGHTS, 10.0)
    before = parse_config(text)
    assert [each.name for each in changed.placements] == [each.name for each in before.placements]
    assert changed.items == before.items
    comments = [line for line in text.splitlines() if line.strip().startswith("#")]
    assert all(each in with_blend(text, "default", WEIGHTS, 10.0).splitlines() for each in comments)


@given(st.sampled_from(sorted(LAYOUTS)), st.sampled_from((1.0, 3.0, 10.0, 120.0)))
def test_written_twice_is_written_once(layout, offset):
    """A second fit replaces the first."""
    once = with_blend(LAYOUTS[layout], "default", WEIGHTS, offset)
    assert with_blend(once, "default", WEIGHTS, offset) == once


@pytest.mark.parametrize(
    "text",
    [
        "placements = [ { name = 'default' } ]\n",
        "[[placements]]\nname = 'default'\n[placements.weights]\ntrending = 0.5\n",
        "[[placements]]\nname = 'default'\nweights = {  trending = 0.5,\n",
    ],
)
def test_a_layout_that_is_not_understood_is_left_alone(tmp_path, text):
    """Inline tables, a table of weights, a file that is none: refused, the file untouched."""
    path = tmp_path / "midstream.toml"
    path.write_text(text)
    with pytest.raises(Invalid, match=r"session_knn = 0\.8125|not TOML"):
        write_blend(path, "default", WEIGHTS, 3.0)
    assert path.read_text() == text


def test_text_that_looks_like_a_header_is_text(tmp_path):
    """What stands inside a text of several lines is no table."""
    path = tmp_path / "midstream.toml"
    path.write_text("[[placements]]\nname = 'default'\nweights = { }\nfilter = '''\nitem.available\n'''\n")
    write_blend(path, "default", WEIGHTS, 3.0)
    assert parse_config(path.read_text()).placements[0].weights == WEIGHTS


def test_link_mode_and_line_ends_stay(tmp_path):
    """Of a file that others keep: elsewhere, for a group, with the line ends of Windows."""
    kept = tmp_path / "kept.toml"
    kept.write_bytes(b"# ours\r\n[[placements]]\r\nname = 'default'\r\n")
    kept.chmod(0o664)
    path = tmp_path / "midstream.toml"
    path.symlink_to("kept.toml")
    write_blend(path, "default", WEIGHTS, 3.0)
    assert path.is_symlink()
    assert kept.stat().st_mode & 0o777 == 0o664
    lines = kept.read_bytes().split(b"\r\n")
    assert b"rank_offset = 3" in lines
    assert not any(b"\n" in each for each in lines)
