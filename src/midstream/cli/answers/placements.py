"""``midstream placements``: lists, previews and sets placements."""

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from midstream.cli.answers.recommend import Filter, Items, Session, User
from midstream.cli.console import (
    HERE,
    UNKNOWN,
    AsJson,
    Folder,
    err,
    json_printable,
    out,
    print_json,
    print_lines,
    say,
    score_text,
    table_of,
)
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midstream.core.answers.placements import PlacementDetail, PlacementList, PlacementVersionView
    from midstream.core.answers.slates import PreviewSlates, Slate

app = typer.Typer(
    cls=GroupHelp,
    help="List, preview and set what answers each placement.",
    epilog="""
    midstream placements list
    midstream placements preview home home.toml --user u14
    """,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the placement.")]
File = Annotated[
    str, typer.Argument(metavar="FILE", help="Settings as TOML without [[placements]], or as JSON; - = standard input.")
]
Author = Annotated[str, typer.Option(metavar="NAME", help="Author of the change; default: the user of this system.")]
Note = Annotated[str, typer.Option(metavar="TEXT", help="Reason for the change.")]
IfVersion = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Refuse the change unless this is the newest version; 0 = no version."),
]


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream placements list
      Prints sources, version, author and compiled (or why not) of each.
    """,
)
def list_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List placements with their sources and their origin.

    The origin is midstream.toml, midstream placements set, or the built-in default.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.placements import list_placements

    with err.status("reading"):
        found = list_placements(folder, config_of(folder))
    if as_json:
        print_json(found)
    else:
        _print_list(found)


@app.command(
    "show",
    cls=CommandHelp,
    epilog="""
    midstream placements show home
    midstream placements show home --version 2
      Prints version 2 as JSON that midstream placements set reads.
    """,
)
def show(
    name: Name,
    version: Annotated[int | None, typer.Option(metavar="N", min=1, help="Version to print, as JSON.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Print the settings and the versions of a placement."""
    from midstream.app.opening import config_of
    from midstream.app.operate.placements import show_placement

    with err.status("reading"):
        found = show_placement(folder, config_of(folder), name)
    if version is not None:
        _print_document(_version_of(found, version).content, as_json=as_json)
    elif as_json:
        print_json(found)
    else:
        _print_detail(found)


@app.command(
    "set",
    cls=CommandHelp,
    epilog="""
    midstream placements set home home.toml --note "fewer items"
    midstream placements show home --version 2 | midstream placements set home -
      Sets the placement to an earlier version.
    """,
)
def set_(
    name: Name,
    file: File,
    author: Author = "",
    note: Note = "",
    if_version: IfVersion = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Set a placement to the settings of a file.

    The settings apply from the next request on, instead of midstream.toml. They stay until midstream placements
    remove. A server may have the folder open.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.placements import read_file, set_placement
    from midstream.engine.placements.control_changes import Said

    told, said = read_file(file), Said(author or getpass.getuser(), note, if_version)
    with err.status("setting"):
        found = set_placement(folder, config_of(folder), name, told, said)
    _print_changed(found, as_json=as_json)


@app.command(
    "remove",
    cls=CommandHelp,
    epilog="""
    midstream placements remove home --note "experiment ended"
    """,
)
def remove(
    name: Name,
    author: Author = "",
    note: Note = "",
    if_version: IfVersion = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Return a placement to its settings in midstream.toml.

    The settings of midstream placements set are removed. A placement that midstream.toml does not have is deleted. A
    server may have the folder open.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.placements import remove_placement
    from midstream.engine.placements.control_changes import Said

    said = Said(author or getpass.getuser(), note, if_version)
    with err.status("giving back"):
        found = remove_placement(folder, config_of(folder), name, said)
    _print_changed(found, as_json=as_json)


@app.command(
    "preview",
    cls=CommandHelp,
    epilog="""
    midstream placements preview home home.toml --user u14 -n 5
      Prints two slates side by side: by home.toml and by the current settings.
    """,
)
def preview(
    name: Name,
    file: File,
    user: User = None,
    session: Session = None,
    items: Items = None,
    n: Annotated[
        int | None, typer.Option("-n", "--n", metavar="N", help="Items of a slate; default: that of each placement.")
    ] = None,
    item_filter: Filter = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare slates by a file and by the current placement.

    One request is answered by the settings of the file and by the current placement. Nothing is recorded. A server may
    have the folder open.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.placements import preview_placement, question_of, read_file

    question = question_of(user, session, items or (), n, item_filter)
    with err.status("answering; the first time on a machine this compiles for about a minute"):
        found = preview_placement(folder, config_of(folder), name, read_file(file), question)
    if as_json:
        print_json(found)
    else:
        _print_preview(found)


def _origin(origin: str, *, covers: bool) -> str:
    words = {"file": "midstream.toml", "api": "set", "built_in": "built in"}
    return f"{words[origin]}, covers midstream.toml" if covers else words[origin]


def _print_list(found: "PlacementList") -> None:
    """Print a line for each placement, and what was set and is not in force."""
    rows = [
        (
            each.placement,
            _origin(each.origin, covers=each.covers_file),
            each.version,
            each.author,
            each.sources,
            "no" if each.not_compiled else "yes",
        )
        for each in found.placements
    ]
    out.print(table_of(["placement", "from", "version", "by", "sources", "compiled"], rows))
    for each in found.placements:
        if each.not_compiled:
            out.print(f"{each.placement} is not compiled: {each.not_compiled}", markup=False)
    for gone in found.aside:
        say(f"not in force: {gone.placement} version {gone.version}: {gone.where} {gone.came} {gone.right}")


def _compiled(obstacle: str) -> str:
    """Return whether kernels make the slates of a placement, and if not, the part that is the reason."""
    return f"no: {obstacle}" if obstacle else "yes"


def _version_of(found: "PlacementDetail", version: int) -> "PlacementVersionView":
    from midstream.core.errors import Fault, Invalid

    for each in found.versions:
        if each.version == version and each.content is not None:
            return each
    known = ", ".join(str(each.version) for each in found.versions if each.content is not None) or "none"
    right = f"One that is kept and has a content: {known}."
    raise Invalid((Fault("--version", f"{version} came.", right, "/docs/placements.md"),))


def _print_document(content: object, *, as_json: bool) -> None:
    """Print a placement as JSON: in one line for programs, else in many."""
    if as_json:
        print_json(content)
    else:
        out.print(json_printable(msgspec.json.format(msgspec.json.encode(content), indent=2).decode()), markup=False)


def _print_detail(found: "PlacementDetail") -> None:
    covers = found.origin == "api" and found.file is not None
    facts: dict[str, object] = {"placement": found.placement, "from": _origin(found.origin, covers=covers)}
    if found.not_compiled is not None:
        facts["compiled"] = _compiled(found.not_compiled)
    print_lines(facts)
    if found.in_force is not None:
        _print_document(found.in_force, as_json=False)
    for each in found.aside:
        say(f"not in force: version {each.version}: {each.where} {each.came} {each.right}")
    _print_versions(found.versions)


def _print_changed(found: "PlacementDetail", *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    covers = found.origin == "api" and found.file is not None
    where = _origin(found.origin, covers=covers) if found.in_force is not None else "nowhere any more"
    out.print(f"{found.placement} is from: {where}", markup=False)
    _print_versions(found.versions)


def _print_versions(versions: "Sequence[PlacementVersionView]") -> None:
    if versions:
        rows = [
            (
                each.version,
                datetime.fromtimestamp(each.changed_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
                each.author,
                each.note or UNKNOWN,
                "given back" if each.content is None else f"sha256 {each.sha256[:12]}",
            )
            for each in versions
        ]
        out.print(table_of(["version", "changed (UTC)", "by", "note", "content"], rows))


def _print_preview(found: "PreviewSlates") -> None:
    """Print two slates side by side, with the position of each item in the other."""
    today = () if found.today is None else found.today.items
    places = {each.id: each.position for each in today}
    rows: list[list[object]] = []
    for position in range(max(len(found.preview.items), len(today))):
        row: list[object] = [position + 1, *_cells(found.preview, position)]
        item_id = row[1]
        row.append(_moved(position, places.get(str(item_id)), there=found.today is not None) if item_id else "")
        rows.append([*row, *(_cells(found.today, position) if found.today is not None else (UNKNOWN, ""))])
    out.print(table_of(["#", "preview", "score", "moved", "today", "score"], rows))
    if found.today is None:
        say("there is no placement of that name today")
    for title, slate in (("preview", found.preview), ("today", found.today)):
        if slate is not None:
            failed = "".join(f"; failed: {each.part}: {each.reason}" for each in slate.failures)
            say(f"{title}: {len(slate.items)} items, tier {slate.tier}{failed}")


def _cells(slate: "Slate", position: int) -> tuple[str, str]:
    if position >= len(slate.items):
        return "", ""
    item = slate.items[position]
    return item.id, score_text(item.score)


def _moved(position: int, before: int | None, *, there: bool) -> str:
    """Return the move of an item relative to the current slate."""
    if not there or before == position:
        return "" if there else UNKNOWN
    if before is None:
        return "new"
    return f"up {before - position}" if before > position else f"down {position - before}"
