"""Models of an MLflow registry (``models:/name@alias``), copied to a folder; the caller verifies them.

The files are listed first, so neither more files nor more bytes than allowed reach the disk; a registry that does not
report the size of a file is refused. No model is loaded and nothing of it is run: MLflow's own formats hold pickles.

Reference: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.artifacts.html
"""

import re
from pathlib import Path
from typing import Any

from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge, ExtraMissing, NotFound, StoreUnavailable

SCHEME = "models:/"
"""Begins the address of a model in a registry: ``models:/name@alias``, ``models:/name/7``."""
_ADDRESS = re.compile(r"models:/[^/@]+[/@][^/@]+\Z")
FILES_MAX = 2_000
"""Twice what a version of ours has."""
_MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE"})
"""What MLflow calls a name, a version or an alias that is not there, or can be none."""


def fetch(reference: str, target: Path, bytes_max: int, tracking: str = "") -> int:
    """Copy the files of a model into a folder; return their bytes, as the registry says.

    Args:
        reference: ``models:/name@alias`` or ``models:/name/version``.
        target: Is there and empty.
        bytes_max: Of all files.
        tracking: Address of the tracking server; empty = as MLflow finds it (``MLFLOW_TRACKING_URI``).

    Raises:
        ExtraMissing: MLflow is not installed.
        NotFound: The registry has no such model, version or alias, or the address is none.
        ArtifactTooLarge: Its files have more bytes than may be; nothing was copied.
        ArtifactInvalid: It has more files than any version, a path that leads elsewhere, or a file of which the
            registry does not say how large it is; nothing was copied.
        StoreUnavailable: The registry does not answer, or gives an error.
    """
    if not _ADDRESS.match(reference):
        message = f"{reference[:200]!r} is no address of a model: models:/name@alias or models:/name/7 would be one"
        raise NotFound(message)
    library, failure = _library()
    try:
        wanted = _listed(library, reference, tracking or None)
        if wanted > bytes_max:
            message = f"{reference}: its files have {wanted:,} bytes, at most {bytes_max:,} may be"
            raise ArtifactTooLarge(message)
        library.artifacts.download_artifacts(
            artifact_uri=reference, dst_path=str(target), tracking_uri=tracking or None
        )
    except failure as error:
        message = f"{reference}: {error}"
        missing = getattr(error, "error_code", "") in _MISSING
        raise (NotFound if missing else StoreUnavailable)(message) from error
    return wanted


def _listed(library: Any, reference: str, tracking: str | None) -> int:  # noqa: ANN401  # the package brings no types
    """Return the bytes of all files of a model."""
    folders, files, size = [""], 0, 0
    while folders:
        below = folders.pop()
        address = f"{reference}/{below}" if below else reference
        for each in library.artifacts.list_artifacts(artifact_uri=address, tracking_uri=tracking):
            path = str(each.path)
            if path.startswith("/") or ".." in path.split("/"):
                message = f"{reference}: {path[:100]!r} leads elsewhere"
                raise ArtifactInvalid(message)
            files += 1
            if files > FILES_MAX:
                message = f"{reference}: it has more than {FILES_MAX:,} files"
                raise ArtifactInvalid(message)
            if each.is_dir:
                folders.append(path)
            else:
                size += _bytes_of(each.file_size, f"{reference}: {path[:100]!r}")
    return size


def _bytes_of(told: object, what: str) -> int:
    if not isinstance(told, int) or told < 0:
        message = f"{what}: the registry does not say how large it is, so it is not fetched: copy the files yourself"
        raise ArtifactInvalid(message)
    return told


def _library() -> tuple[Any, type[Exception]]:
    """Return MLflow, and what it raises."""
    try:
        import mlflow.artifacts  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        message = "models:/ is read by MLflow: install midstream[mlflow]"
        raise ExtraMissing(message) from error
    library: Any = mlflow
    return library, library.exceptions.MlflowException
