"""Rounds in which versions take turns: each program runs for one version, then for the next, before the next program.

What a shared machine does to one it so does to the other, and the ratio of a row is the median of the ratios of the
rounds. Which version is first changes with each round.
"""

import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .checkouts import Checkout
from .machine import Noise, probe, ticks
from .programs import ONCE, Bench, Program

FAULTS = (subprocess.SubprocessError, OSError, RuntimeError, TimeoutError, KeyError, ValueError)
"""What a program may raise; it is named and fails the run, and the others go on."""


@dataclass
class Measured:
    """What a run has found."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    """Of each version, by row: a figure a round."""
    noise: dict[str, list[Noise]] = field(default_factory=lambda: defaultdict(list))
    """By program: one before and one behind each of its turns."""
    failures: list[str] = field(default_factory=list)


def measured(
    bench: Bench,
    checkouts: Sequence[Checkout],
    programs: Mapping[str, Program],
    rounds: int,
    say: Callable[[str], None],
) -> Measured:
    """Run the programs for all versions in turns."""
    found = Measured()
    for number in range(rounds):
        order = checkouts if number % 2 == 0 else list(reversed(checkouts))
        for name, program in programs.items():
            if number and name in ONCE:
                continue
            for checkout in order:
                turn(bench, checkout, (name, program), found)
        say(f"round {number + 1} of {rounds}, {time.strftime('%H:%M:%S')}")
    return found


def turn(bench: Bench, checkout: Checkout, named: tuple[str, Program], found: Measured) -> None:
    """Run one program for one version, with the noise before it and behind it."""
    name, program = named
    since = ticks()
    before = probe(bench.root, since)
    try:
        figures = program(bench, checkout)
    except FAULTS as fault:
        found.failures.append(f"{name} of {checkout.name}: {type(fault).__name__}: {str(fault)[-300:]}")
        return
    found.noise[name] += [before, probe(bench.root, since)]
    for row, value in figures.items():
        found.figures[checkout.name][row].append(value)
