"""``midstream warm``: machine code of all kernels, before the first start."""

import os
from typing import Annotated

import typer

from midstream.cli.console import out, say
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

app = typer.Typer()
Cpu = Annotated[
    str | None,
    typer.Option("--cpu", metavar="NAME", help="CPU in LLVM's words, such as x86-64-v3; default: this one."),
]


@app.command(
    "warm",
    cls=CommandHelp,
    epilog="""
    midstream warm
    midstream warm --cpu x86-64-v3
      For all machines with AVX2, in an image that has NUMBA_CPU_NAME set too.
    """,
)
def command(cpu: Cpu = None) -> None:
    """Compile all kernels that serving needs.

    A start does so too where it has to. What is compiled lies in the folder that NUMBA_CACHE_DIR names, or in the
    user's cache folder. With --cpu it is for another machine, and is used where NUMBA_CPU_NAME names the same CPU.
    """
    if cpu:
        os.environ["NUMBA_CPU_NAME"] = cpu  # before the compiler is imported, and for the processes that compile
    from midstream.events.machine_code.ahead import compile_ahead

    with progress() as bar:
        tell = notify_of(bar)
        done = compile_ahead(lambda number, total: tell("compiling", number, total))
    out.print(
        f"{done.kernels} kernels compiled in {done.seconds:.0f} s, {done.present} were there: {done.folder}",
        markup=False,
    )
    for failure in done.failures:
        say(f"not compiled: {failure}")
    if done.failures:
        raise typer.Exit(1)
