"""Name of the user who runs a process, for audits."""

import getpass
import os


def machine_user() -> str:
    """Return the name of the user, ``uid-1000`` where the machine has none for the number, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
