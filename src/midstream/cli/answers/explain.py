"""``midstream explain``: explanation of a logged request, and of an absent item."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.answers.explained import print_explained
from midstream.cli.console import HERE, AsJson, Folder, err, out, print_json, say, table_of
from midstream.cli.help import CommandHelp
from midstream.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from midstream.app.explain.reruns import Rerun

app = typer.Typer()
Items = Annotated[
    list[str] | None,
    typer.Option("--item", metavar="ID", help="Item to explain in full, in the slate or not; repeatable."),
]
Last = Annotated[
    int | None,
    typer.Option("--last", metavar="N", min=1, help="Run the last N requests again, instead of REQUEST."),
]


@app.command(
    "explain",
    cls=CommandHelp,
    epilog="""
    midstream explain V4oLhUmHPcUcL5-Xt0v2oQJh5W2aN0hC --item lamp-012
      Prints why the item is in the slate of this request, or why it is not.
    midstream explain --last 100
      Prints how many of the last 100 answers are reproduced bit for bit.
    """,
)
def command(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="Request id of an answer.")] = "",
    items: Items = None,
    last: Last = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Server to ask, instead of a folder.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Explain the logged answer to a request.

    The request is run again on the state at its time, which is computed from the log. Differences to the logged answer
    are listed. With --last the exit status is 1 when there is one. A server may have the folder open.
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
    """Rerun the last requests and print how many are identical; exit with 1 unless all are."""
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
