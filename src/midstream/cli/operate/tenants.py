"""``midstream tenants``: lists, creates, suspends, exports and deletes the tenants of a folder."""

from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_json, say, table_of
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from midstream.serving.tenants.audit_file import TenantChange
    from midstream.serving.tenants.types import TenantView

app = typer.Typer(
    cls=GroupHelp,
    no_args_is_help=True,
    help="Manage the shops of a server of several tenants.",
    epilog="""
    midstream tenants create red
    midstream tenants list
    """,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the tenant, such as red-shop.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Shown to callers of the tenant.")]
Requests = Annotated[float, typer.Option("--requests", metavar="N", min=0, help="Requests a second; 0 = no quota.")]
Events = Annotated[float, typer.Option("--events", metavar="N", min=0, help="Events a second; 0 = no quota.")]
Settings = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", exists=True, dir_okay=False, help="Its midstream.toml; none = defaults."),
]
Confirm = Annotated[str, typer.Option(metavar="NAME", help="The name again: all it has is removed for good.")]
Target = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="PATH", help="New folder or .tar file; default: below exports.")
]
Count = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=100_000, help="Changes at most.")]


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream tenants list
    """,
)
def list_command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the tenants and their states."""
    from midstream.app.tenants.orders import TenantOrders

    found = TenantOrders(folder).list()
    if as_json:
        print_json({"tenants": found})
        return
    columns = ("name", "state", "log position", "requests/s", "events/s", "reason")
    out.print(table_of(columns, map(_row, found)))


@app.command(
    "create",
    cls=CommandHelp,
    epilog="""
    midstream tenants create red --requests 100
      Prints an admin key of the tenant, once.
    """,
)
def create_command(
    name: Name,
    config: Settings = None,
    requests: Requests = 0.0,
    events: Events = 0.0,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make a tenant, and print its first API key once.

    A running server opens it at once.
    """
    from midstream.app.tenants.orders import TenantOrders
    from midstream.serving.tenants.types import TenantQuota, TenantWish

    text = "" if config is None else config.read_text("utf-8")
    with err.status("opening"):
        made = TenantOrders(folder).create(TenantWish(name, text, TenantQuota(requests, events)))
    if as_json:
        print_json(made)
        return
    out.print(made.key, markup=False)
    say(f"{name} is {made.tenant.state} at {made.tenant.path}; the key has the scope admin and is not shown again")


@app.command(
    "suspend",
    cls=CommandHelp,
    epilog="""
    midstream tenants suspend red --reason "The bill is open."
    """,
)
def suspend_command(name: Name, reason: Reason = "", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Close a tenant until it is resumed.

    Its callers get a 503 with the reason, also after a restart.
    """
    from midstream.app.tenants.orders import TenantOrders

    with err.status("closing"):
        found = TenantOrders(folder).suspend(name, reason)
    _print(found, as_json=as_json)


@app.command(
    "resume",
    cls=CommandHelp,
    epilog="""
    midstream tenants resume red
    """,
)
def resume_command(name: Name, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Open a tenant that is suspended or failed."""
    from midstream.app.tenants.orders import TenantOrders

    with err.status("opening"):
        found = TenantOrders(folder).resume(name)
    _print(found, as_json=as_json)


@app.command(
    "quota",
    cls=CommandHelp,
    epilog="""
    midstream tenants quota red --requests 100 --events 1000
    """,
)
def quota_command(
    name: Name, requests: Requests = 0.0, events: Events = 0.0, folder: Folder = HERE, as_json: AsJson = False
) -> None:
    """Set both rates of a tenant; one that is left out is none."""
    from midstream.app.tenants.orders import TenantOrders
    from midstream.serving.tenants.types import TenantQuota

    _print(TenantOrders(folder).set_quota(name, TenantQuota(requests, events)), as_json=as_json)


@app.command(
    "export",
    cls=CommandHelp,
    epilog="""
    midstream tenants export red --output red.tar
      midstream restore reads it.
    """,
)
def export_command(name: Name, output: Target = None, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Copy a tenant into an archive, also while it serves."""
    from midstream.app.tenants.orders import TenantOrders

    with err.status("copying"):
        found = TenantOrders(folder).export(name, output)
    if as_json:
        print_json(found)
    else:
        out.print(f"{found.file}: log position {found.log_position}, {found.files} files", markup=False)


@app.command(
    "delete",
    cls=CommandHelp,
    epilog="""
    midstream tenants delete red --confirm red
    """,
)
def delete_command(name: Name, confirm: Confirm = "", folder: Folder = HERE) -> None:
    """Remove a tenant with all its events, models and keys."""
    from midstream.app.tenants.orders import TenantOrders

    with err.status("removing"):
        TenantOrders(folder).delete(name, confirm)
    say(f"{name} is removed")


@app.command(
    "audit",
    cls=CommandHelp,
    epilog="""
    midstream tenants audit -n 20
    """,
)
def audit_command(limit: Count = 50, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the changes of tenants: who, when, what, from where."""
    from midstream.app.tenants.folders import TenantFolders
    from midstream.serving.tenants.audit_file import changes_of

    found, unreadable = changes_of(TenantFolders(folder).audit, limit)
    if unreadable:
        say(f"{unreadable} lines cannot be read; a crash cuts one short")
    if as_json:
        print_json({"changes": found, "unreadable": unreadable})
        return
    rows = ((_time(each.time), each.who, each.address, _what(each), each.tenant) for each in found)
    out.print(table_of(("time", "who", "from", "what", "tenant"), rows))


def _what(change: "TenantChange") -> str:
    """Return what a change was, and of one that may be made in part that it may."""
    what = f"{change.method} {change.route}"
    if not change.status:
        return f"{what} (begun; its end was not recorded)"
    is_failed = change.status >= HTTPStatus.BAD_REQUEST  # of those that are listed, in the middle
    return f"{what} (failed with {change.status}; a part may be made)" if is_failed else what


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d %H:%M:%S}"


def _print(view: "TenantView", *, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        out.print(table_of(("name", "state", "log position", "requests/s", "events/s", "reason"), [_row(view)]))


def _row(each: "TenantView") -> tuple[object, ...]:
    quota = each.quota
    return (
        each.name,
        each.state,
        each.log_position,
        quota.requests_per_second or None,
        quota.events_per_second or None,
        each.reason.partition("\n")[0],
    )
