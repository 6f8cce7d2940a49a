"""``midstream bench``: runs the suite of a checkout, or one of its benchmarks, as a program of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from midstream.cli.console import say
from midstream.cli.help import CommandHelp
from midstream.core.errors import NotFound
from midstream.core.nearest import nearest

app = typer.Typer()
FOLDER = Path(__file__).resolve().parents[4] / "benchmarks"
SUITE = "suite"
_MAIN = 'if __name__ == "__main__":'


@app.command(
    "bench",
    cls=CommandHelp,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="""
    midstream bench
      Measures every row of the suite on this machine, in about half an hour.
    midstream bench --against HEAD~10
      Measures this checkout and another revision in turns.
    midstream bench serving
      Measures throughput and latency of a server over HTTP.
    """,
)
def command(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of a benchmark; default: the suite.")] = None,
) -> None:
    """Run speed benchmarks on this machine.

    Without a name, the suite measures every row of the benchmarks page in turns of rounds. Benchmarks are part of a
    source checkout, not of an installed package. Options are passed on to the benchmark.
    """
    # Options of the suite come where a name may stand: unknown ones count as arguments.
    is_option = name is not None and name.startswith("-")
    told = [name, *context.args] if name is not None and is_option else context.args
    raise typer.Exit(run(chosen(None if is_option else name), told))


def chosen(name: str | None) -> Path:
    """Return the benchmark to run.

    Raises:
        NotFound: This is no checkout, or there is no benchmark of that name.
    """
    found = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if _MAIN in path.read_text("utf-8")}
    if not found:
        message = "benchmarks are part of a checkout, not of an installed package"
        raise NotFound(message)
    if name is not None and name not in found:
        message = f"there is no benchmark {name!r}.{nearest(name, found)} There are {', '.join(found)}"
        raise NotFound(message)
    return found[name or SUITE]


def run(path: Path, arguments: list[str]) -> int:
    """Run one; return 0, or 1 when it failed."""
    say(f"benchmark {path.stem}")
    return int(subprocess.run([sys.executable, str(path), *arguments], check=False).returncode != 0)  # noqa: S603  ours
