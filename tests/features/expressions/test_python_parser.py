"""Python's parser for one expression: what it warns of is refused, and nobody else's warning becomes an error."""

import ast
import gc
import socket
import subprocess
import sys
import warnings
from threading import Barrier, Thread

import pytest

from midstream.features.expressions.python_parser import parse_expression
from tests.support.patience import PATIENCE_S

FORKS = """
import os, signal, threading
from midstream.features.expressions.python_parser import parse_expression

def parse():
    while True:
        parse_expression('a or b')

for _ in range(2):
    threading.Thread(target=parse, daemon=True).start()
for _ in range(100):
    if (pid := os.fork()) == 0:
        signal.alarm(5)
        parse_expression('a or b')
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
os._exit(0)
"""
"""Children of a process whose threads read texts: each is ended by an alarm where it waits for one of these."""


@pytest.mark.parametrize("text", [r"'\d'", "1if a else b", "0xfor x"])
def test_what_python_warns_of_is_refused(text):
    """It would be another text, or none, in a later version."""
    with pytest.raises(SyntaxError):
        parse_expression(text)


def test_it_is_refused_each_time():
    """Also where Python remembers that it has warned of the place."""
    for _ in range(3):
        with pytest.raises(SyntaxError):
            parse_expression(r"'\d'")


def test_a_warning_of_something_else_stays_a_warning(monkeypatch):
    """What the collector of garbage finds while a text is read, a socket that nobody closed, is no error."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    def found_meanwhile(source, *_):
        left = socket.socket()
        del left
        gc.collect()
        return compile(source, "<expression>", "eval", ast.PyCF_ONLY_AST)

    monkeypatch.setattr(ast, "parse", found_meanwhile)
    with warnings.catch_warnings(record=True) as said:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        parse_expression("a or b")
    assert not unraisable
    assert [each.category for each in said] == [ResourceWarning]


def test_many_threads_leave_the_filters_as_they_were():
    """Each is refused what it is refused alone, and at the end nothing is an error that was none before."""
    count, wrong = 8, list[object]()
    begin = Barrier(count)

    def read():
        begin.wait()
        for _ in range(200):
            try:
                parse_expression(r"'\d'")
                wrong.append("taken")
            except SyntaxError:
                pass  # as alone

    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        before = list(warnings.filters)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            threads = [Thread(target=read) for _ in range(count)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        finally:
            sys.setswitchinterval(interval)
        assert warnings.filters == before
    assert not wrong


def test_a_child_of_a_fork_can_read():
    """A thread that read a text at the fork is not there to let others do so."""
    ran = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert ran.returncode == 0, ran.stderr
