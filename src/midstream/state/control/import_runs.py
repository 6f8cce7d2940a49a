"""Control events of import runs: which file was imported when and how, and which log positions its rows have.

The fold passes them by: a run is an account of events, and changes no state of its own. Such an event follows the rows
that it names, so a log that has it has them. Its positions are of one log, which it names as well; in another one, to
which an export brought it, it says nothing.
"""

import msgspec

CHANGE = "import_run"
"""What the body of such a control event says of itself."""
Spans = tuple[tuple[int, int], ...]


class ImportRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a control event: one run of an import, or what a part of it recorded."""

    run: str
    """Name, by which it is taken back."""
    log: str
    """Public name of the log."""
    file: str
    time_ms: int
    """Wall clock when it began."""
    spans: Spans
    """From and before which log positions its rows lie; ticks and control events among them are not its own."""
    counts: dict[str, int]
    """Rows that were ``recorded``, ``known``, in ``conflicts``, ``refused``, ``rejected``."""
    mapping: dict[str, str]
    """Options of the import. A constant is named without its value, which may be somebody's id."""
    undone_ms: int = 0
    """Wall clock when it was taken back; then it has no spans. 0 = it was not."""
    change: str = CHANGE


def import_run_of(body: bytes) -> ImportRun | None:
    """Return what the body of a control event says of an import run; None = something else."""
    try:
        found = msgspec.json.decode(body, type=ImportRun)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found.change == CHANGE else None


def encode_import_run(run: ImportRun) -> bytes:
    """Return a run as it stands in the log."""
    return msgspec.json.encode(run)
