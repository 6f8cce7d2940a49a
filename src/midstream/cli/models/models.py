"""``midstream models``: versions of models, and which of them answer."""

from datetime import UTC, datetime
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

if TYPE_CHECKING:
    from midstream.engine.models.views import ModelView

app = typer.Typer(help="Models: their versions, and which of them answer.")
Name = Annotated[str, typer.Argument(help="Name of the model.")]
Version = Annotated[str, typer.Argument(help="The version, its number or first digits; default: the newest.")]
Alias = Annotated[str, typer.Option(help="champion, challenger or shadow.")]


@app.command("list")
def list_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List every model: its newest version, what aliases stand for, what is in service."""
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


@app.command("show")
def show(name: Name, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show the versions of a model, with their metrics."""
    from midstream.app.opening import config_of
    from midstream.app.operate.model_registry import show_model

    with err.status("reading"):
        found = show_model(folder, config_of(folder), name)
    _print_model(found, as_json=as_json)


@app.command("compare")
def compare(
    name: Name,
    versions: Annotated[list[str] | None, typer.Argument(help="Versions; default: the two newest.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Lay metrics, options and windows of versions of a model beside each other."""
    from midstream.app.operate.model_registry import compare_versions

    found = compare_versions(folder, name, versions or ())
    if as_json:
        print_json(found)
        return
    columns = list(next(iter(found.values())))
    out.print(table_of(["", *columns], [(row, *each.values()) for row, each in found.items()]))


@app.command("promote")
def promote_(
    name: Name, version: Version = "", alias: Alias = "champion", folder: Folder = HERE, as_json: AsJson = False
) -> None:
    """Let a version be champion: it answers from the next request on, once it was verified.

    Through the server that has the folder open, if there is one.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.model_registry import promote

    with err.status("verifying"):
        found = promote(folder, config_of(folder), name, version, alias)
    _print_model(found, as_json=as_json)


@app.command("rollback")
def rollback_(name: Name, alias: Alias = "champion", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Let the version before be champion again; twice is where it began."""
    from midstream.app.opening import config_of
    from midstream.app.operate.model_registry import rollback

    with err.status("verifying"):
        found = rollback(folder, config_of(folder), name, alias)
    _print_model(found, as_json=as_json)


@app.command("export")
def export(
    name: Name,
    version: Version = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: <name>-<version>.tar")] = None,
    folder: Folder = HERE,
) -> None:
    """Write a version as one file, to be carried elsewhere."""
    from midstream.app.operate.model_registry import export_model, registry_of

    found = registry_of(folder).find(name, version)
    target = output or Path(f"{name}-{found}.tar")
    export_model(folder, name, found, target)
    out.print(str(target), markup=False)


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="What models export wrote, or models:/NAME@ALIAS of an MLflow registry.")
    ],
    name: Annotated[str, typer.Option(help="Model it becomes a version of; default: the one it says.")] = "",
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="A feature a LightGBM model reads; repeat.")
    ] = None,
    tracking: Annotated[str, typer.Option(help="Address of MLflow's server; default: as MLflow finds it.")] = "",
    folder: Folder = HERE,
) -> None:
    """Take in a version that models export wrote, verified; nothing is promoted."""
    from midstream.app.operate.model_registry import Import, import_model

    with err.status("verifying"):
        taken, version = import_model(folder, Import(source, name, tuple(inputs or ()), tracking))
    out.print(f"{taken} {version}", markup=False)


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
