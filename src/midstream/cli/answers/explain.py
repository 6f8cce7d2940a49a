"""``midstream explain``: why a logged request was answered as it was, and why an item is not in it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.answers.explained import print_explained
from midstream.cli.console import HERE, AsJson, Folder, err, out, print_json, say, table_of
from midstream.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from midstream.app.explain.reruns import Rerun

app = typer.Typer()
Items = Annotated[list[str] | None, typer.Option("--item", help="An item to explain, in the slate or not; repeatable.")]
Last = Annotated[int | None, typer.Option("--last", min=1, help="Instead: run the last N requests again, and compare.")]


@app.command("explain")
def command(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="Id of an answer.")] = "",
    items: Items = None,
    last: Last = None,
    url: Annotated[str | None, typer.Option(help="A server to ask instead of a folder.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Say why a request was answered as it was.

    The request is run again on the state of then, from the log alone; a server may have the folder open. What is not
    as it was is named.
    """
    if last is not None:
        verify(folder, last, as_json=as_json)
        return
    if not request_id:
        raise typer.BadParameter("It is missing.", param_hint="REQUEST")
    from midstream.app.explain.explain import explain_request, explain_through

    with err.status("making the state of then"):
        if url is not None:
            found = explain_through(url, request_id, tuple(items or ()))
        else:
            found = explain_request(folder, request_id, tuple(items or ()))
    print_json(found) if as_json else print_explained(found)


def verify(folder: Path, last: int, *, as_json: bool) -> None:
    """Run the last requests again and print how many are identical; exit with 1 unless all are."""
    with progress() as bar:
        task = bar.add_task("requests", total=last)
        found: list[Rerun] = []
        for each in _again(folder, last):
            found.append(each)
            bar.update(task, completed=len(found))
    _report(found, as_json=as_json)


def _again(folder: Path, last: int) -> "Iterator[Rerun]":
    from midstream.app.explain.reruns import rerun_last

    return rerun_last(folder, last)


def _report(found: "list[Rerun]", *, as_json: bool) -> None:
    different = [each for each in found if not each.is_identical]
    if as_json:
        print_json({
            "requests": len(found),
            "identical": len(found) - len(different),
            "different": {each.logged.request_id: each.differences for each in different},
        })  # fmt: skip
    else:
        say(f"{len(found)} requests were run again, {len(found) - len(different)} answers are identical to the bit")
        if different:
            rows = [
                [each.logged.request_id, one.field, one.then, one.now] for each in different for one in each.differences
            ]
            out.print(table_of(["request", "field", "then", "now"], rows))
    if different:
        raise typer.Exit(1)
