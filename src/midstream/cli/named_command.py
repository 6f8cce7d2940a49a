"""Program with the one command that the arguments name: its module alone is imported, and its options alone are read.

What names no command, such as the help of the program and a word that is none, is for the program with all of them.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from midstream.cli.program import framed, run

COMMANDS = {
    "init": "operate.init",
    "serve": "answers.serve",
    "import": "data.import_file",
    "consume": "data.consume",
    "export": "data.export",
    "examples": "models.examples",
    "recommend": "answers.recommend",
    "explain": "answers.explain",
    "check": "operate.check",
    "erase": "data.erase",
    "train": "models.train",
    "rebuild": "operate.rebuild",
    "seal": "operate.seal",
    "backup": "operate.backup",
    "restore": "operate.backup",
    "nodes": "operate.nodes",
    "probe": "operate.probe",
    "warm": "operate.warm",
    "size": "operate.size",
    "report": "data.report",
    "estimate": "answers.estimate",
    "doctor": "operate.doctor",
    "bench": "operate.bench",
    "simulate": "answers.simulate",
    "demo": "demo.demo",
    "docs": "operate.docs",
    "audit": "operate.audit",
}
"""Where each command is; a module may have several."""
GROUPS = {
    "evaluate": "models.evaluate",
    "features": "features.features",
    "feast": "data.feast",
    "models": "models.models",
    "placements": "answers.placements",
    "experiments": "answers.experiments",
    "items": "data.items",
    "users": "data.users",
    "events": "data.events",
    "slates": "answers.slates",
    "dead-letters": "data.dead_letters",
    "inputs": "data.inputs",
    "outputs": "operate.outputs",
    "sinks": "operate.sinks",
    "training": "models.training",
    "keys": "operate.keys",
    "tenants": "operate.tenants",
}
"""Where each group of commands is."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names, else the whole program, and exit with its status.

    Args:
        arguments: Without the program's name; None = those of the process.
    """
    name = next(iter(sys.argv[1:] if arguments is None else arguments), "")
    if name in COMMANDS:
        only = framed()
        only.add_typer(_app_of(COMMANDS[name]))
    elif name in GROUPS:
        only = framed()
        only.add_typer(_app_of(GROUPS[name]), name=name)
    else:
        only = whole()
    run(only, arguments)


def whole() -> typer.Typer:
    """Return the program with all of its commands, in the order of the tables: a tenth of a second."""
    program = framed()
    for module in dict.fromkeys(COMMANDS.values()):
        program.add_typer(_app_of(module))
    for name, module in GROUPS.items():
        program.add_typer(_app_of(module), name=name)
    return program


def _app_of(module: str) -> typer.Typer:
    found: typer.Typer = import_module(f"midstream.cli.{module}").app
    return found
