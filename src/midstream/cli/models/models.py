"""``midstream models``: versions of models and their aliases."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import (
    HERE,
    UNKNOWN,
    AsJson,
    Folder,
    bytes_text,
    err,
    out,
    print_json,
    print_lines,
    say,
    table_of,
)
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from midstream.engine.models.views import ModelView

app = typer.Typer(
    cls=GroupHelp,
    help="List, compare and promote versions of models.",
    epilog="""
    midstream models list
    midstream models promote taste
    """,
)


class Form(StrEnum):
    """Format of an exported model."""

    TAR = "tar"
    ONNX = "onnx"


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")]
Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="Version, its number or its first digits; default: the newest.")
]
Alias = Annotated[str, typer.Option(metavar="ALIAS", help="Alias to set: champion (in service), challenger or shadow.")]


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream models list
    """,
)
def list_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List models with their aliases and the version in service."""
    from midstream.app.opening import config_of
    from midstream.app.operate.model_registry import list_models, untrained

    config = config_of(folder)
    with err.status("reading"):
        found = list_models(folder, config)
    if as_json:
        print_json({"models": found})
        return
    rows = [(each.name, len(each.versions), _newest(each), _aliases(each), each.serving or UNKNOWN) for each in found]
    rows += [(name, 0, f"no version; midstream train {name}", "", UNKNOWN) for name in untrained(config, found)]
    if rows:
        out.print(table_of(["model", "versions", "newest", "aliases", "in service"], rows))
    else:
        say("no model: none is published, and midstream.toml has no [[models]]")


@app.command(
    "show",
    cls=CommandHelp,
    epilog="""
    midstream models show taste
    """,
)
def show(name: Name, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Print the versions of a model with their metrics."""
    from midstream.app.opening import config_of
    from midstream.app.operate.model_registry import show_model

    with err.status("reading"):
        found = show_model(folder, config_of(folder), name)
    _print_model(found, as_json=as_json)


@app.command(
    "compare",
    cls=CommandHelp,
    epilog="""
    midstream models compare taste
      Prints the two newest versions side by side.
    midstream models compare taste 3 7
    """,
)
def compare(
    name: Name,
    versions: Annotated[
        list[str] | None, typer.Argument(metavar="VERSION", help="Versions; default: the two newest.")
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare metrics and options of versions of a model."""
    from midstream.app.operate.model_registry import compare_versions

    found = compare_versions(folder, name, versions or ())
    if as_json:
        print_json(found)
        return
    columns = list(next(iter(found.values())))
    out.print(table_of(["", *columns], [(row, *each.values()) for row, each in found.items()]))


@app.command(
    "promote",
    cls=CommandHelp,
    epilog="""
    midstream models promote taste
      Makes the newest version the champion.
    midstream models promote taste 7 --alias shadow
    """,
)
def promote_(
    name: Name, version: Version = "", alias: Alias = "champion", folder: Folder = HERE, as_json: AsJson = False
) -> None:
    """Put a version of a model into service.

    The version is verified, gets the alias champion, and is used from the next request on. The other aliases name a
    version and leave the one in service. A server may have the folder
    open.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.model_registry import promote

    with err.status("verifying"):
        found = promote(folder, config_of(folder), name, version, alias)
    _print_model(found, as_json=as_json)


@app.command(
    "rollback",
    cls=CommandHelp,
    epilog="""
    midstream models rollback taste
    """,
)
def rollback_(name: Name, alias: Alias = "champion", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Undo the last promotion of a model.

    The previous version gets the alias again. Two rollbacks in a row cancel each other. A server may have the folder
    open.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.model_registry import rollback

    with err.status("verifying"):
        found = rollback(folder, config_of(folder), name, alias)
    _print_model(found, as_json=as_json)


@app.command(
    "export",
    cls=CommandHelp,
    epilog="""
    midstream models export taste --output taste.tar
    midstream models export ranker --format onnx
      Writes a graph for programs elsewhere.
    """,
)
def export(
    name: Name,
    version: Version = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write; default: NAME-VERSION.FORMAT.")
    ] = None,
    form: Annotated[
        Form, typer.Option("--format", help="Format: tar, which models import takes, or onnx, for programs elsewhere.")
    ] = Form.TAR,
    folder: Folder = HERE,
) -> None:
    """Write a version of a model to a .tar or .onnx file."""
    from midstream.app.operate.model_registry import export_model, registry_of

    found = registry_of(folder).find(name, version)
    target = output or Path(f"{name}-{found}.{form}")
    export_model(folder, name, found, target, as_onnx=form is Form.ONNX)
    out.print(str(target), markup=False)


@app.command(
    "import",
    cls=CommandHelp,
    epilog="""
    midstream models import ranker.onnx --name ranker --columns price,views
      Takes in a model that any library wrote as ONNX.
    midstream models import users.onnx --items items.npz --name taste
      Takes in a graph that reads histories, and the vectors of items.
    midstream models import models:/ranker@champion --name ranker
      Copies a model of the MLflow registry that MLFLOW_TRACKING_URI names.
    """,
)
def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="File of models export, ONNX file, folder of a version, or MLflow's models:/NAME@ALIAS.",
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the model; default: as in SOURCE.")] = "",
    columns: Annotated[
        str,
        typer.Option(metavar="A,B,C", help="Features that an ONNX or LightGBM file reads, in order."),
    ] = "",
    score: Annotated[
        str, typer.Option(metavar="OUTPUT", help="Output of an ONNX file that is the score; default: the only one.")
    ] = "",
    tracking: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address of the MLflow registry; default: MLFLOW_TRACKING_URI.")
    ] = "",
    items: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="Ids, vectors and expected scores (.npz) for an ONNX file that reads histories."
        ),
    ] = "",
    last: Annotated[
        int, typer.Option(metavar="N", min=1, max=500, help="Number of last items that such a file reads.")
    ] = 50,
    folder: Folder = HERE,
) -> None:
    """Import a version of a model from a file or from MLflow.

    The version is verified and published. To put it into service, use midstream models promote.
    """
    from midstream.app.operate.model_registry import Import, import_model, is_unproven

    named = tuple(each.strip() for each in columns.split(",")) if columns else ()
    with err.status("verifying"):
        taken, version = import_model(folder, Import(source, name, named, score, tracking, items, last))
    out.print(f"{taken} {version}", markup=False)
    if is_unproven(folder, taken, version):
        say(
            "No expected scores came with the items, so nothing says that the graph has them in the order of the ids. "
            "Put histories and expected beside ids and vectors: midstream docs models"
        )


def _print_model(found: "ModelView", *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    out.print(found.name, markup=False)
    for each in found.versions:
        made = datetime.fromtimestamp(each.made_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M") if each.made_ms else UNKNOWN
        facts = {
            "alias": ", ".join(each.aliases) or UNKNOWN,
            **({"invalid": each.invalid} if each.invalid else {"kind": each.kind}),
            "made": made,
            "size": bytes_text(each.bytes),
            **{name: UNKNOWN if value is None else value for name, value in each.metrics.items()},
        }
        out.print(f"  {each.version}", markup=False)
        print_lines(facts, "    ")
    if found.serving:
        out.print(f"in service: {found.serving}; loaded beside it: {found.warm or 'none'}", markup=False)
    if found.refused:
        out.print(f"refused: {found.refused}", markup=False)


def _newest(model: "ModelView") -> str:
    return model.versions[-1].version if model.versions else UNKNOWN


def _aliases(model: "ModelView") -> str:
    return ", ".join(f"{alias} {version}" for alias, version in sorted(model.aliases.items()))
