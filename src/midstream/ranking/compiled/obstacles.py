"""Answer to "compiled, or why not" of a plan: the first of its parts for which no kernel makes its slates.

It binds nothing and needs no machine code, so that a command says the same of a folder as a server does of its state.
"""

from midstream.ranking.compiled.program import NotCompiled, obstacle_to_slates, program_of
from midstream.ranking.compiled.rooms import oversize
from midstream.ranking.compiled.slate_program import slate_program_of
from midstream.ranking.plan import Plan
from midstream.state.fold import Fold


def obstacle_of(plan: Plan, fold: Fold) -> str:
    """Return why the pipeline answers usual questions to a plan, at least behind the cut; empty = kernels do."""
    program = program_of(plan, fold)
    if isinstance(program, NotCompiled):
        return program.reason
    if reason := oversize(program, plan.slate_size_max):
        return reason
    if not obstacle_to_slates(plan):
        return ""
    behind = slate_program_of(plan, fold.items)
    return behind.reason if isinstance(behind, NotCompiled) else ""
