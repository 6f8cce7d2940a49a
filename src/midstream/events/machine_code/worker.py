"""Process that compiles kernels of the recording, by their numbers on its standard input; it ends with that.

A line a kernel comes back on its standard output: its number, and why it could not be compiled where it could not. Its
argument is what is added to its niceness.
"""

import gc
import os
import signal
import sys
from importlib import import_module

from midstream.events.kernel import Kernel
from midstream.events.machine_code.recorded import RecordedKernel, recording

CONTAINERS_MAX = 500_000
"""New ones between two looks for cycles. The compiler makes some 2,000 a millisecond that live on until a kernel is
done, and to look through them after each 700, as Python does, takes an eighth of all the time."""


def main() -> None:
    """Compile until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it is told too, and ends it
    os.nice(int(sys.argv[1]))
    gc.set_threshold(CONTAINERS_MAX, 10, 10)
    kernels = recording().kernels
    for line in sys.stdin:
        number = int(line)
        sys.stdout.write(f"{number} {_compiled(kernels[number])}\n")
        sys.stdout.flush()


def _compiled(told: RecordedKernel) -> str:
    """Compile all versions of a kernel; return why not, in one line, empty when it is done."""
    from midstream.events.machine_code.cache import FAULTS
    from midstream.events.machine_code.type_text import decoded

    try:
        found = getattr(import_module(told.module), told.name)
        if not isinstance(found, Kernel):
            return "it is no kernel"
        for signature in told.signatures:
            found.compile_for(tuple(decoded(recording().types[each]) for each in signature))
    except FAULTS as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return ""


if __name__ == "__main__":
    main()
