"""What the errors of a log that cannot be trusted tell people to do: first what loses nothing."""

from pathlib import Path

from midstream.events.segments.segment_scan import Damage, gap, no_segment

FOLDER = Path("/data/log")


def told(damage):
    """Return the text of an error."""
    return str(damage.error(FOLDER))


def test_of_a_missing_file_it_says_to_put_it_back_before_it_says_how_to_go_on_without():
    """A process that runs still has the bytes of what was removed; the stop that a repair needs gives them up."""
    for damage in (no_segment(0), no_segment(7), gap(3, 9)):
        text = told(damage)
        ways = [text.find(way) for way in ("Put back what was removed", "/proc/PID/fd", "backup", "doctor --repair")]
        assert -1 not in ways
        assert ways == sorted(ways)


def test_of_changed_bytes_it_says_to_restore_a_backup_before_it_says_how_to_go_on_without():
    """Nothing can be put back."""
    text = told(Damage("1.segment", 5, 3, 9, "the checksum differs"))
    assert "/data/log/1.segment from byte 5" in text
    assert "log position 3 to 9" in text
    assert "Put back" not in text
    assert -1 < text.find("Restore a backup") < text.find("doctor --repair")
