"""Import of a version from a folder of another model registry: found, copied, and verified as any import.

Four things may be in such a folder: a tar of ``export_version``; the folder of a version, whose manifest is verified
by its name, whatever other files there are; a text model of LightGBM, which becomes a version of the kind ``trees``; or
an ONNX graph, which becomes one of the kind ``onnx``. Nothing else is read: no pickle, no link, no file that a manifest
does not name.
"""

import os
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from midstream.core.errors import ArtifactInvalid
from midstream.events.file_modes import make_folder, open_file
from midstream.models.artifact.artifact import MANIFEST, NAME, VERSION, Draft, read_manifest, sync_folder
from midstream.models.artifact.golden import made_rows, row_content
from midstream.models.onnx.rules import require_bytes
from midstream.models.rows.trees import Trees
from midstream.training.onnx_import import OnnxImport, publish_onnx
from midstream.training.packing import import_version, require_number, require_room, take_in
from midstream.training.registry import Registry

FILES_MAX = 2_000
"""Files of the folder: twice those of a version."""
GRAPH = ".onnx"
"""Ends the name of an ONNX file."""
_TREES = b"tree\n"
"""First line of LightGBM's files."""


def import_folder(
    registry: Registry, folder: Path, name: str = "", columns: Sequence[str] = (), source: str = "", score: str = ""
) -> tuple[str, str]:
    """Import the one version in a folder; return the model's name and the version.

    Args:
        registry: The target.
        folder: The source; left as it is.
        name: New name of the model; empty = the version's own.
        columns: Of a model without a manifest, its features, in its order; none = the names in its file.
        source: Origin; kept in the options of a version without a manifest.
        score: Of an ONNX graph, the output that is the score; empty = the only one.

    Raises:
        ArtifactTooLarge: It exceeds the maximum of bytes; nothing remains.
        ArtifactInvalid: There is no version in it, or more than one; it is damaged or fails its golden questions; a
            LightGBM model cannot be kept exactly, or has no name. Nothing remains.
        Invalid: An ONNX graph may not be run, or is no ranker over the columns; nothing remains.
        ExtraMissing: What runs an ONNX graph is not installed; nothing remains.
        OSError: The disk; nothing remains.
    """
    there = list(islice(folder.rglob("*"), FILES_MAX + 1))
    if len(there) > FILES_MAX:
        message = f"{source or folder.name}: more than {FILES_MAX:,} files and folders are no model"
        raise ArtifactInvalid(message)
    files = sorted(path for path in there if path.is_file() and not path.is_symlink())
    tars = [path for path in files if path.suffix == ".tar"]
    manifests = [path for path in files if path.name == MANIFEST and VERSION.match(path.parent.name)]
    if len(tars) + len(manifests) == 1:
        if tars:
            return import_version(registry, tars[0], name)
        return take_in(registry, lambda target: _copied(registry, manifests[0].parent, target), name)
    graphs = [path for path in files if path.suffix == GRAPH]
    texts = [path for path in files if _is_text_of_trees(path)]
    if len(tars) + len(manifests) or len(texts) + len(graphs) != 1:
        told = ", ".join(str(path.relative_to(folder)) for path in files[:5]) or "nothing"
        right = "one tar of models export, one folder of a version by its name, one text of LightGBM's, or one .onnx"
        message = f"{source or folder.name}: {right} would be right; there are {told}"
        raise ArtifactInvalid(message)
    if graphs:
        wanted = OnnxImport(name, tuple(columns), score, source or graphs[0].name)
        return name, publish_onnx(registry, read_graph_file(graphs[0]), wanted)
    return name, _published(registry, texts[0], name, columns, source)


def read_graph_file(path: Path) -> bytes:
    """Return the bytes of an ONNX file, after its size was looked at.

    Raises:
        Invalid: It is larger than may be.
        OSError: It cannot be read.
    """
    require_bytes(path.stat().st_size)
    return path.read_bytes()


def _copied(registry: Registry, source: Path, target: Path) -> tuple[str, str]:
    """Copy the files that a manifest names, each synced; return the model's name and the version."""
    manifest = read_manifest(source)
    if not NAME.match(manifest.name):
        message = f"{source.name}: no model can be called {manifest.name[:100]!r}"
        raise ArtifactInvalid(message)
    require_number(source.name, manifest)
    registry.require_size(source.name, manifest.bytes)
    require_room(target, manifest.bytes, str(source))
    folder = target / manifest.name / source.name
    make_folder(folder)
    for name, told in (*manifest.files.items(), (MANIFEST, None)):
        path = source / name
        if path.is_symlink() or not path.is_file() or (told is not None and path.stat().st_size != told.bytes):
            message = f"{source.name}: {name} is no file of {told.bytes if told else 'its'} bytes"
            raise ArtifactInvalid(message)
        with path.open("rb") as content, os.fdopen(open_file(folder / name, os.O_WRONLY | os.O_EXCL), "wb") as copy:
            shutil.copyfileobj(content, copy)
        sync_folder(folder / name)
    sync_folder(folder)
    return manifest.name, source.name


def _published(registry: Registry, text: Path, name: str, columns: Sequence[str], source: str) -> str:
    """Publish a model that LightGBM wrote; return the version."""
    if not NAME.match(name):
        message = f"{text.name} has no name of ours: say which model it becomes a version of, not {name!r}"
        raise ArtifactInvalid(message)
    registry.require_size(text.name, text.stat().st_size)
    try:
        trees = Trees.of_lightgbm(text.read_text("utf-8"), columns or None)
    except UnicodeDecodeError as error:
        message = f"{text.name} is no text: {error}"
        raise ArtifactInvalid(message) from error
    draft = Draft(name=name, kind="trees", inputs=trees.inputs, options={"source": source or text.name})
    return registry.publish(draft, row_content(trees, made_rows(trees, 0)))


def _is_text_of_trees(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_TREES)) == _TREES
