"""Where the server of a data folder listens: a small file beside the lock, while it runs.

So ``midstream import`` in another terminal finds the server that has the folder open and sends through it. Only who
holds the folder's lock writes it or takes it away.
"""

from pathlib import Path

_NAME = "server.url"
_CHARS_MAX = 200


def read_address(data: Path) -> str | None:
    """Return the URL that was published, None when there is none. It may be of a server that died."""
    try:
        text = (data / _NAME).read_text("ascii")[:_CHARS_MAX].strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return text if text.startswith("http://") else None


def publish(data: Path, url: str) -> None:
    """Write the URL down."""
    (data / _NAME).write_text(f"{url}\n", "ascii")


def withdraw(data: Path) -> None:
    """Take the URL away."""
    (data / _NAME).unlink(missing_ok=True)
