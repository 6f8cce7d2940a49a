"""Folder of the public data sets: named by the environment, or beside the checkout."""

import os
from collections.abc import Mapping
from pathlib import Path

from midstream.core.errors import NotFound

DATA_VARIABLE = "MIDSTREAM_DATA"
CHECKOUT = Path(__file__).resolve().parents[2]


def data_folder(environ: Mapping[str, str], checkout: Path = CHECKOUT) -> Path | None:
    """Return the folder of data sets, or None: ``MIDSTREAM_DATA``, else ``shared/data`` beside the checkout."""
    if named := environ.get(DATA_VARIABLE):
        return Path(named)
    beside = checkout.resolve().parent / "shared" / "data"
    return beside if beside.is_dir() else None


def known_folder(name: str) -> Path:
    """Return the folder of data sets, if it holds this one.

    Raises:
        NotFound: It does not.
    """
    folder = data_folder(os.environ)
    if folder is None or not (folder / name).is_dir():
        message = f"{name} is not at hand: {DATA_VARIABLE} names the folder that holds the folder {name}"
        raise NotFound(message)
    return folder
