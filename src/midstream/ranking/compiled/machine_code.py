"""Machine code of the kernels of compiled plans: is it there? A start on a new machine does not wait for it."""

from midstream.state.structures.kernel import is_pending


def has_code() -> bool:
    """Return whether the kernels up to the cut have machine code; while they have none the pipeline answers."""
    from midstream.ranking.compiled.state_kernel import answer_judged, answer_question, make_state

    return not is_pending(make_state, answer_question, answer_judged)


def has_slate_code() -> bool:
    """Return whether the kernel from scores to a slate has machine code; while it has none the pipeline answers."""
    from midstream.ranking.compiled.bound_slate import finish_bound, make_slate

    return not is_pending(make_slate, finish_bound)
