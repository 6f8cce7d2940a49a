"""Command-line program with all of its commands, for its help and for who runs several in one process."""

from collections.abc import Sequence

from midstream.cli.named_command import whole
from midstream.cli.program import run

app = whole()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status.

    Args:
        arguments: Without the program's name; None = those of the process.
    """
    run(app, arguments)
