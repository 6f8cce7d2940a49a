"""Entry of the program, ``midstream`` and ``python -m midstream``: a Ctrl-C while its modules are imported ends it too.

Imports take a fifth of a second; a command knows itself what it says when it is interrupted later.
"""

import sys

_INTERRUPTED = 130
"""Exit status of what SIGINT ended, as shells have it."""


def main() -> None:
    """Run the command that the arguments of the process name, and exit with its status."""
    try:
        from midstream.cli.named_command import main as run
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
