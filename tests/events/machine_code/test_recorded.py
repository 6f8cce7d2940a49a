"""The list of kernels that are compiled ahead: what a warm-up asks for, and in a form that can be read back."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from midstream.events.kernel import Kernel
from midstream.events.machine_code import ahead
from midstream.events.machine_code.recorded import RECORDED, recording, written
from tests.support.patience import PATIENCE_S

ROOT = Path(__file__).parents[3]
ANEW = "kernels or their arguments have changed: run scripts/kernels, which records them anew"


def told(number):
    """A recorded kernel in words, a text a version."""
    each = recording().kernels[number]
    for signature in each.signatures:
        types = [recording().types[place] for place in signature]
        yield f"{each.module}.{each.name} {json.dumps(types)}"


def test_the_list_is_what_a_warm_up_asks_for():
    """Whatever it asks for is on the list, and whatever Python calls by the list it asks for."""
    program = [sys.executable, "scripts/record_kernels.py", "--asked-for"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    asked = set(done.stdout.splitlines())
    listed = {text for number in range(len(recording().kernels)) for text in told(number)}
    called = {text for number, each in enumerate(recording().kernels) if each.is_called for text in told(number)}
    assert sorted(asked - listed) == [], ANEW
    names = {each.partition(" ")[0] for each in asked}
    assert sorted({each.partition(" ")[0] for each in called} - names) == [], ANEW
    assert len(asked) > 50


def test_each_kernel_on_the_list_is_there():
    """It is a kernel of its module, and those that it needs stand before it."""
    for number, each in enumerate(recording().kernels):
        assert isinstance(getattr(import_module(each.module), each.name, None), Kernel), ANEW
        assert each.source.is_file()
        assert all(callee < number for callee in each.needs)


def test_the_types_come_back_as_they_were():
    """Read, and written again."""
    from midstream.events.machine_code.type_text import decoded, encoded

    assert len(recording().types) > 30
    for each in recording().types:
        assert encoded(decoded(each)) == each
    assert written(recording()) == RECORDED.read_text("utf-8")


def test_no_kernel_is_handed_out_before_those_that_it_calls():
    """Whoever compiled it would compile them too; and all of them come."""
    kernels = dict(enumerate(recording().kernels))
    turn = ahead._Round(kernels, lambda _done, _total: None)
    under_way: list[int] = []
    came: list[int] = []
    while turn.waiting or under_way:
        while (number := turn.next()) is not None:
            assert turn.done.issuperset(kernels[number].needs)
            under_way.append(number)
        came.append(under_way.pop(0))
        turn.end(came[-1], "")
    assert sorted(came) == sorted(kernels)
    assert turn.failures == []
