"""Lines of the log of a process: structure, limits, and what is never in one above ``debug``."""

import io
import json
import logging
import sys
import threading
import time
import warnings
from collections import Counter

import pytest

from midstream.core.tracebacks import raised_of
from midstream.monitoring import logs
from midstream.monitoring.fact_logger import FACT, NAME, log_fact
from midstream.monitoring.facts import Fact
from midstream.monitoring.logs import KIND_LINES_MAX, LogOptions, logging_to
from midstream.testing.patience import PATIENCE_S

MARK = "MARKED"


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


def error_of(text):
    """An error with a traceback."""

    def fail():
        raise ValueError(text)

    try:
        fail()
    except ValueError as error:
        return error


def written(work, stream=None, **options):
    """The lines that ``work`` leads to."""
    stream = io.StringIO() if stream is None else stream
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []  # those of pytest raise where a text cannot be made
    try:
        with logging_to(stream, LogOptions(**{"format": "json", **options})):
            work()
    finally:
        root.handlers = handlers
    return stream.getvalue().splitlines()


def say_everything():
    """Each kind of line that there is, with the mark wherever a caller's text could be."""
    error = error_of(MARK)
    log_fact(Fact("part_failed", "warning", {"part": "shelf"}, raised=raised_of(error), detail=f"ValueError: {MARK}"))
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=error)
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: %s", MARK)
    logging.getLogger("httpx").info("GET /%s", MARK)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(MARK, stacklevel=1)
    thread = threading.Thread(target=lambda: int(MARK))
    thread.start()
    thread.join()
    sys.unraisablehook(type("Told", (), {"exc_value": error, "err_msg": MARK, "object": MARK})())


def test_each_line_is_an_object_and_says_where_and_not_what():
    """Time, level and event first; an error is a type and its places."""
    lines = [json.loads(line) for line in written(say_everything, process="follower-1")]
    assert [each["event"] for each in lines] == [
        "part_failed",
        "Exception in ASGI application",
        "Task exception was never retrieved",
        "python_warning",
        "thread_ended_by_bug",
        "error_nobody_caught",
    ]
    for each in lines:
        assert list(each)[:4] == ["timestamp", "level", "event", "process"]
        assert each["timestamp"].endswith("Z")
    assert lines[1]["error"] == "ValueError"
    assert lines[1]["traceback"][0].endswith("fail")
    assert MARK not in json.dumps(lines)


def test_at_debug_everything_is_said():
    """So the mark would have been found above."""
    lines = written(say_everything, level="debug")
    assert sum(MARK in line for line in lines) == len(lines) - 1  # an error that ended a thread says where alone
    assert any("GET" in line for line in lines)


@pytest.mark.parametrize("level, events", [("info", ["a", "b", "c"]), ("warning", ["b", "c"]), ("error", ["c"])])
def test_the_level_is_the_least_that_is_written(level, events):
    """Of facts as of all others."""

    def work():
        log_fact(Fact("a"))
        log_fact(Fact("b", "warning"))
        log_fact(Fact("c", "error"))

    assert [json.loads(line)["event"] for line in written(work, level=level)] == events


def test_a_terminal_gets_text_and_not_what_is_on_its_screen():
    """And what is not printable is escaped; a file of text has all lines."""

    def work():
        log_fact(Fact("started", fields={"url": "http://x"}))
        log_fact(Fact("concern", "warning", {"about": "\x1b[31mdisk\n2"}))

    told = {"stream": Terminal(), "format": "auto", "on_screen": ("started",)}
    (line,) = written(work, **told)
    assert "concern" in line
    assert "about" in line
    assert "[31mdisk" in line
    assert "\x1b[31mdisk" not in line
    assert len(written(work, format="text", on_screen=("started",))) == 2
    assert len(written(work, format="auto", on_screen=("started",))) == 2


def test_a_flood_of_a_library_is_a_few_lines_and_a_number():
    """Told apart by the text before values are put in; a text that cannot be made is a line as well."""

    def work():
        for number in range(100):
            logging.getLogger("lib").warning("slow: %d", number)
        logging.getLogger("lib").warning("bad %d", MARK)

    lines = [json.loads(line) for line in written(work)]
    assert [each["event"] for each in lines[:KIND_LINES_MAX]] == [f"slow: {each}" for each in range(KIND_LINES_MAX)]
    unreadable, held_back = lines[KIND_LINES_MAX:]
    assert (unreadable["event"], unreadable["logger"]) == ("log_line_unreadable", "lib")
    assert held_back["reasons"] == {"lib": 100 - KIND_LINES_MAX}
    assert MARK not in json.dumps(lines)


def test_a_reader_that_stands_still_holds_nobody_up(monkeypatch):
    """What finds no room is counted, and said when there is room."""
    may_write = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text):
            assert may_write.wait(PATIENCE_S)
            return super().write(text)

    monkeypatch.setattr(logs, "LINES_WAITING_MAX", 10)
    stream = Stuck()
    with logging_to(stream, LogOptions("info", "json")):
        for number in range(50):
            log_fact(Fact("a", key=str(number)))
        may_write.set()
        until = time.monotonic() + PATIENCE_S
        while stream.getvalue().count("\n") < 10 and time.monotonic() < until:
            time.sleep(0.001)
        log_fact(Fact("b"))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    said = sum(each["event"] == "a" for each in lines)
    lost = [each.get("count", 1) for each in lines if each["event"] == "log_lines_lost"]
    assert lost
    assert said + sum(lost) == 50
    assert lines[-1]["event"] == "b"


def test_a_line_may_come_from_within_a_line():
    """A finalizer that logs runs wherever garbage is collected: here at each call within the handling of a line."""
    stream, inner, done = io.StringIO(), [], threading.Event()
    logger, writer = logging.Logger("alone"), logs._LineWriter(stream)  # attached to nothing that others log to
    writer.setFormatter(logs._formatter(LogOptions("info", "json"), stream))
    writer.addFilter(logs._LineLimit(writer))
    logger.addHandler(writer)

    def finalize(_frame, _event, _argument):  # is not entered again by what it does itself
        inner.append(len(inner))
        logger.warning("%s", "inner", extra={FACT: Fact("inner", key=str(len(inner)))})

    def work():
        logger.warning("first", extra={FACT: Fact("outer")})
        sys.setprofile(finalize)
        logger.warning("outer", extra={FACT: Fact("outer")})
        sys.setprofile(None)
        done.set()

    threading.Thread(target=work, daemon=True).start()
    assert done.wait(PATIENCE_S)
    writer.close()
    told = Counter(json.loads(line)["event"] for line in stream.getvalue().splitlines())
    assert told == {"outer": 2, "inner": len(inner)}
    assert len(inner) > 20


def test_all_is_as_it_was_afterwards():
    """Handlers, levels and hooks; also when the block raises, and when the stream is gone."""
    root, own = logging.getLogger(), logging.getLogger(NAME)

    def state():
        hooks = warnings.showwarning, threading.excepthook, sys.unraisablehook
        return root.handlers[:], root.level, own.handlers[:], own.level, hooks

    before = state()
    stream = io.StringIO()

    def fail():
        with logging_to(stream, LogOptions("debug", "json")):
            assert state() != before
            stream.close()
            log_fact(Fact("a"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert state() == before


def test_without_a_configuration_a_fact_goes_nowhere(capfd):
    """A program that embeds the engine decides; not even a warning is on its standard error."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        log_fact(Fact("concern", "error", {"about": "disk"}))
    finally:
        root.handlers = handlers
    assert capfd.readouterr() == ("", "")


def test_a_program_that_listens_gets_text_and_fields(caplog):
    """By the logger ``midstream`` of the standard library."""
    with caplog.at_level("INFO", NAME):
        log_fact(Fact("concern", "warning", {"about": "disk"}, detail=MARK))
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "concern about=disk")
    assert record.fact.fields == {"about": "disk"}
