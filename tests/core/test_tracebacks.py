"""What is kept of an exception: types and places, never what it says nor what its frames hold."""

import gc
import weakref

from midstream.core.tracebacks import CAUSES_MAX, PLACES_MAX, Raised, raised_of


class Held:
    """Something that a frame refers to."""


def fail(held):
    """Raise from within two calls, because of another error."""
    try:
        int("MARKED")
    except ValueError as error:
        message = f"MARKED {held}"
        raise KeyError(message) from error


def caught(work, *arguments):
    """What ``work`` raised, by what is kept of it."""
    try:
        work(*arguments)
    except Exception as error:  # noqa: BLE001  whatever it is
        return raised_of(error)
    raise AssertionError


def test_types_and_places_are_kept_and_no_texts():
    """The call that raised comes first, then those that led to it, then the cause."""
    raised = caught(fail, Held())
    assert raised.kind == "KeyError"
    assert [place[2] for place in raised.places] == ["caught", "fail"]
    first, second, because, cause = raised.lines()
    assert first.endswith(" fail")
    assert second.endswith(" caught")
    assert (because, cause.split()[-1]) == ("because of ValueError", "fail")
    assert str(raised).startswith("KeyError at ")
    assert "MARKED" not in repr(raised) + str(raised)


def test_nothing_of_the_frames_lives_on():
    """A component's objects are not kept for as long as somebody remembers that it failed."""
    held = Held()
    seen = weakref.ref(held)
    raised = caught(fail, held)
    del held
    gc.collect()
    assert seen() is None
    assert raised.places


def test_what_has_no_end_is_cut():
    """A recursion, and errors behind errors."""

    def again(depth):
        if depth == 0:
            raise LookupError
        again(depth - 1)

    assert len(caught(again, 500).places) == PLACES_MAX
    deep: BaseException = LookupError()
    for _ in range(10):
        fresh = LookupError()
        fresh.__cause__ = deep
        deep = fresh
    found, count = raised_of(deep), 0
    while found.cause is not None:
        found, count = found.cause, count + 1
    assert count == CAUSES_MAX


def test_our_files_and_installed_ones_are_named_from_their_package():
    """The same text on every machine."""
    path = raised_of.__code__.co_filename
    installed = "/opt/x/lib/python3.12/site-packages/numpy/linalg.py"
    raised = Raised("ValueError", ((path, 1, "a"), (installed, 2, "b"), ("/srv/shop/components.py", 3, "c")))
    assert raised.lines() == (
        "/srv/shop/components.py:3 c",
        "numpy/linalg.py:2 b",
        "midstream/core/tracebacks.py:1 a",
    )
    assert str(Raised("ValueError", ())) == "ValueError"
