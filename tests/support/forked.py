"""A copy of the test's process, in which something is done that may end it, or never end."""

import os
import signal
import traceback
from collections.abc import Callable

CHILD_S_MAX = 60
"""A fold of some thousand events takes 0.1 s."""
HOLDS, DOES_NOT, RAISED = range(3)


def status_of_a_copy(holds: Callable[[], bool]) -> int:
    """Ask a copy of this process; return its status, 0 where the answer is yes; a signal is below 0."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = RAISED
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_S_MAX)
        status = HOLDS if holds() else DOES_NOT
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(status)  # nothing of the test runs on in the copy
