"""Lines of the log of a process: structure, limits, and what is never in one above ``debug``."""

import asyncio
import gc
import io
import json
import logging
import sys
import threading
import time
import warnings
from collections import Counter
from functools import partial

import pytest
import uvloop

from midstream.core.tracebacks import raised_of
from midstream.monitoring import logs
from midstream.monitoring.fact_logger import FACT, NAME, log_fact
from midstream.monitoring.facts import Fact
from midstream.monitoring.logs import KIND_LINES_MAX, LogOptions, logging_to
from tests.support.patience import PATIENCE_S

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


def test_a_line_may_come_from_within_a_line(monkeypatch):
    """A finalizer that logs runs wherever garbage is collected: here at each call within the handling of a line."""
    inner: list[int] = []
    stream, done = io.StringIO(), threading.Event()
    logger, writer = logging.getLogger("alone"), logs._LineWriter(stream)
    writer.setFormatter(logs._formatter(LogOptions("info", "json"), stream))
    writer.addFilter(logs._LineLimit(writer))
    monkeypatch.setattr(logger, "handlers", [writer])
    monkeypatch.setattr(logger, "propagate", False)  # no other test waits for it where this one fails

    def finalize(_frame, _event, _argument):  # is not entered again by what it does itself
        inner.append(len(inner))
        logger.warning("%s", "inner", extra={FACT: Fact("inner", key=str(len(inner)))})

    def work():
        logger.warning("first", extra={FACT: Fact("outer")})
        sys.setprofile(finalize)
        later = {"created": time.time() + 100.0, "levelno": logging.WARNING, FACT: Fact("outer")}
        logger.handle(logging.makeLogRecord(later))  # a minute ends as well
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


class Notify:
    """A callback that shows what it was made for, as a dataclass does; a name of one's own may be anything."""

    def __repr__(self):
        return f"notify {MARK}"

    def __call__(self):
        raise ValueError(MARK)


def fail_for(_who):
    raise ValueError(MARK)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_no_line_of_an_event_loop_has_arguments(new_loop):
    """Neither those of a callback, nor what it calls itself, nor the name of a task; asyncio and uvloop tell them."""

    def work():
        async def fail():
            raise ValueError(MARK)

        async def main():
            loop = asyncio.get_running_loop()
            loop.call_soon(partial(fail_for, MARK))
            loop.call_soon(fail_for, MARK)
            loop.call_soon(Notify())
            task = loop.create_task(fail(), name=f"cart of {MARK}")
            await asyncio.sleep(0.01)
            del task
            gc.collect()
            logging.getLogger("asyncio").warning("Executing %s took %.3f seconds", MARK, 0.2)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())

    lines = [json.loads(line) for line in written(work)]
    assert [each["event"] for each in lines] == [
        *["Exception in callback"] * 3,
        "Task exception was never retrieved",
        "Executing %s took %.3f seconds",
    ]
    assert [each["error"] for each in lines[:4]] == ["ValueError"] * 4
    assert MARK not in json.dumps(lines)
    with_detail = written(work, level="debug")
    assert sum(MARK in line for line in with_detail) == len(with_detail)


def recorded(text, created_s, **more):
    """A line that came at a time."""
    values = {"name": "asyncio", "levelno": logging.ERROR, "levelname": "ERROR", "msg": text, "created": created_s}
    logging.getLogger("asyncio").handle(logging.makeLogRecord(values | more))


@pytest.mark.parametrize("every_s", [1, 60, 61, 150])
def test_what_a_library_says_for_a_day_is_a_few_lines(every_s):
    """Its period doubles as that of a fact does; how many were held back is all there."""
    count = 86_400 // every_s

    def work():
        for number in range(count):
            recorded(f"Exception in callback f('{number}')", number * every_s)

    lines = [json.loads(line) for line in written(work)]
    said = [each for each in lines if each["event"] == "Exception in callback"]
    assert len(said) <= 40
    assert len(lines) <= 80
    assert len(said) + sum(each["reasons"]["asyncio"] for each in lines if "reasons" in each) == count


def test_facts_are_not_thinned_out_twice():
    """They come with their counts, one a period: each is written."""
    fact = Fact("part_failed", "warning", key="shelf")

    def work():
        for number in range(60):
            recorded("", number * 61, name=NAME, fact=fact)

    assert len(written(work)) == 60


def test_another_error_of_the_same_text_is_a_line_of_its_own():
    """However long the first goes on: type and place tell them apart."""

    def work():
        errors = [error_of(MARK), *(KeyError(MARK) for _ in range(2))]
        for number in range(120):
            recorded("Task exception was never retrieved", number * 60, exc_info=(None, errors[0], None))
        recorded("Task exception was never retrieved", 7_201, exc_info=(None, errors[1], None))

    lines = [json.loads(line) for line in written(work)]
    assert sum(each.get("error") == "KeyError" for each in lines) == 1


def test_after_an_hour_of_quiet_it_begins_anew():
    """And a clock that was set back holds nothing up."""

    def work():
        for begin_s in (100_000, 110_000, 50_000):
            for number in range(10):
                recorded("Exception in callback f", begin_s + number)

    lines = [json.loads(line) for line in written(work)]
    assert sum(each["event"] == "Exception in callback" for each in lines) == 3 * KIND_LINES_MAX


def test_lines_about_lines_have_a_level_too():
    """Where errors alone are asked for, none of them is told that warnings were held back or lost."""

    def work():
        for number in range(100):
            logging.getLogger("lib").error("slow: %d", number)
        logging.getLogger("lib").error("bad %d", MARK)

    events = [json.loads(line)["event"] for line in written(work, level="error")]
    assert events[KIND_LINES_MAX:] == ["log_line_unreadable"]
    stream = io.StringIO()
    writer = logs._LineWriter(stream)
    writer.setLevel("ERROR")
    writer._lost = 3
    writer.handle(logs.record_of(Fact("a", "error")))
    writer.close()
    assert "log_lines_lost" not in stream.getvalue()


def test_a_thread_that_ends_itself_is_no_bug():
    """Python says nothing of ``sys.exit`` in a thread."""

    def work():
        thread = threading.Thread(target=sys.exit)
        thread.start()
        thread.join()

    assert written(work) == []


def test_a_minute_may_end_while_lines_come():
    """From within the sum of a minute, as a finalizer does; and no other thread is in the filter meanwhile."""
    stream, free = io.StringIO(), []
    writer = logs._LineWriter(stream)

    class Entering(logging.Formatter):
        """Enters the handler again, while the sum is made."""

        def format(self, record):
            if record.fact.event == "log_lines_held_back":
                writer.handle(logs.record_of(Fact("inner")))
            return f"{record.fact.event} {dict(record.fact.reasons)}"

    def look(_record):
        def enter():
            assert writer.lock is not None
            free.append(writer.lock.acquire(blocking=False))
            if free[-1]:
                writer.lock.release()

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return True

    writer.setFormatter(Entering())
    writer.addFilter(logs._LineLimit(writer))
    writer.addFilter(look)
    for created in (*range(10), 100):
        writer.handle(logging.makeLogRecord({"created": created, "name": "lib", FACT: Fact("outer"), "levelno": 30}))
    writer.close()
    assert free
    assert not any(free)
    expected = [*["outer {}"] * KIND_LINES_MAX, "inner {}", "log_lines_held_back {'lib': 5}", "outer {}"]
    assert stream.getvalue().splitlines() == expected
