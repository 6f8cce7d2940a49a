"""Structured logging of a process: one pipeline for facts, for uvicorn and other libraries, and for Python's warnings.

Lines go to one stream, as text where it is a terminal and as one JSON object a line otherwise, each with its time
(UTC), level and event. Above the level ``debug`` a line never has what an exception or a warning says, nor more than
the first line of what a library says, and of an event loop's that line's words alone: an error is its type and the
calls that led to it. What is not printable is escaped.

A thread writes, from a queue with a maximum: a reader of the stream that stands still holds up no request, and what
found no room is counted. structlog formats; its own configuration, which a process has once, is left as it is.

Only programs of one's own, such as the server, use this module: it changes how the process logs, and puts that back.
"""

import logging
import queue
import re
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Collection, Generator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import structlog

from midstream.core.tracebacks import raised_of
from midstream.monitoring.fact_logger import FACT, NAME, fields_of, log_fact
from midstream.monitoring.facts import HOUR_S, MINUTE_S, Fact, Level, LogFormat
from midstream.ranking.boundary import Account, boundary

LINES_WAITING_MAX = 1_000
"""For the stream: 1 MB at 1 kB a line. A day on which everything breaks has 200. The most that passes in a minute is
``KINDS_MAX`` times ``KIND_LINES_MAX``, 3,000: of so wide a flood a reader that stands still for 20 s loses lines."""
KIND_LINES_MAX = 5
"""Of one kind in its first minute: enough to see what they have in common. Facts are fewer by themselves."""
KINDS_MAX = 600
"""Told apart within an hour: all facts, and 100 more. A library that puts values into its texts before it logs them
makes a kind of each; beyond, the lines of a logger are one kind."""
ASYNCIO = "asyncio"
"""Logger of the event loop, also of uvloop: its first lines have values, put in before they are logged."""
_VALUES = re.compile(r"(?<=callback) | <| functools\b|\((?!\))|['\"\[{]")
"""Where the values begin: behind ``Exception in callback`` comes whatever the callback calls itself."""
HOOKED = frozenset({"python_warning", "thread_ended_by_bug", "error_nobody_caught"})
"""Facts that no ``Facts`` has held back, since they come from any thread, and from within any call."""
STOP_S_MAX = 2.0
"""A process waits so long at its end for a stream that takes no lines."""
TEXT_CHARACTERS_MAX = 2_000
"""Of one text in a line."""
_FACT_PAD = 18
"""Columns of an event in text: what most of them have."""
_LEVELS: Mapping[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_Event = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What is logged, and how it looks."""

    level: Level = "info"
    format: LogFormat = "auto"
    """``auto``: text on a terminal, JSON elsewhere."""
    process: str = ""
    """Which of several processes that share a stream; empty = there is one."""
    on_screen: Collection[str] = ()
    """Events that a program shows by itself where the stream is a terminal, such as that it has started."""


def is_text(options: LogOptions, stream: TextIO) -> bool:
    """Return whether lines are for people."""
    return options.format == "text" or (options.format == "auto" and stream.isatty())


@contextmanager
def logging_to(stream: TextIO, options: LogOptions) -> Generator[None]:
    """Write what this process logs to a stream while the block runs; then all is as it was before.

    Facts are written from ``options.level`` on. Libraries are heard from ``warning`` on, at ``debug`` from ``info`` on.
    """
    level, root, own = _LEVELS[options.level], logging.getLogger(), logging.getLogger(NAME)
    writer = _LineWriter(stream)
    writer.setFormatter(_formatter(options, stream))
    writer.setLevel(level)
    if is_text(options, stream) and stream.isatty():
        writer.addFilter(lambda record: _event_of(record) not in options.on_screen)
    limit = _LineLimit(writer)
    writer.addFilter(limit)
    with ExitStack() as undo:
        undo.callback(writer.close)
        undo.callback(limit.say_held)
        undo.callback(root.setLevel, root.level)
        undo.callback(own.setLevel, own.level)
        undo.callback(root.removeHandler, writer)
        root.addHandler(writer)
        own.setLevel(level)
        root.setLevel(logging.INFO if level == logging.DEBUG else max(level, logging.WARNING))
        undo.enter_context(_hooked())
        yield


def _event_of(record: logging.LogRecord) -> str:
    fact = getattr(record, FACT, None)
    return fact.event if isinstance(fact, Fact) else ""


def _formatter(options: LogOptions, stream: TextIO) -> logging.Formatter:
    renderer: Any = structlog.processors.JSONRenderer(default=str, ensure_ascii=True)
    if is_text(options, stream):
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=_FACT_PAD, sort_keys=False)
    with_detail = options.level == "debug"

    def line(_logger: object, _method: str, event: _Event) -> _Event:
        return line_of(event, with_detail=with_detail, process=options.process)

    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=[line], processors=[_drop_meta, renderer])


def _drop_meta(_logger: object, _method: str, event: _Event) -> _Event:
    """Take out what structlog's formatter keeps beside the fields."""
    return {name: value for name, value in event.items() if not name.startswith("_")}


def line_of(event: _Event, *, with_detail: bool, process: str) -> _Event:
    """Return the fields of a line, in their order, from what structlog's formatter says of a record."""
    record: logging.LogRecord = event["_record"]
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields: dict[str, object] = {}
    fact = getattr(record, FACT, None)
    if isinstance(fact, Fact):
        name = fact.event
        fields |= fields_of(fact, with_detail=with_detail)
    else:
        name, _, rest = str(event["event"]).strip().partition("\n")
        if record.name == ASYNCIO:
            name, rest = text_without_values(str(record.msg)), str(event["event"]).strip()
        fields["logger"] = record.name
        error = record.exc_info[1] if record.exc_info else event.get("exc_info", (None, None))[1]
        if isinstance(error, BaseException):
            raised = raised_of(error)
            fields |= {"error": raised.kind, "traceback": list(raised.lines())}
            rest = f"{rest} {error}"
        if with_detail and rest.strip() and rest.strip() != name:
            fields["detail"] = rest.strip()
    shared = {"process": process} if process else {}
    head = {"timestamp": time, "level": record.levelname.lower(), "event": name, **shared}
    return {"_record": record, **{key: _printable(value) for key, value in {**head, **fields}.items()}}


def _printable(value: object) -> object:
    """Return a value without what a terminal would obey, texts in it cut to a length."""
    if isinstance(value, str):
        text = value[:TEXT_CHARACTERS_MAX]
        return text if text.isprintable() else "".join(each if each.isprintable() else _escaped(each) for each in text)
    if isinstance(value, list):
        return [_printable(each) for each in cast("list[object]", value)]
    return value


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


class _LineWriter(logging.Handler):
    """Formats where it is called, and writes on a thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        """Begin to wait for lines."""
        super().__init__()
        self._stream = stream
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        """Its ``put`` may be entered again by the thread that is in it, as a finalizer that logs does."""
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name="midstream-log", daemon=True)
        self._thread.start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Filter under the lock as well, which the thread that has it may enter again."""
        with self.lock or nullcontext():
            return bool(super().handle(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line; where there is no room, count it."""
        account = Account()
        with boundary(record.name, account):  # values that a library cannot put into its own text
            line = self.format(record)
            self._put(line)
        if account.failures:
            level: Level = "error" if record.levelno >= logging.ERROR else "warning"
            self.say(Fact("log_line_unreadable", level, {"logger": record.name}))

    def say(self, fact: Fact) -> None:
        """Queue a line about lines, past all filters but the level."""
        record = record_of(fact)
        if record.levelno >= self.level:
            with self.lock or nullcontext():
                self._put(self.format(record))

    def _put(self, line: str) -> None:
        if self._lines.qsize() >= LINES_WAITING_MAX:
            self._lost += 1
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self.say(Fact("log_lines_lost", "warning", count=lost))
        self._lines.put(line)

    def _write(self) -> None:
        for line in iter(self._lines.get, None):
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more, or it is closed
                with self.lock or nullcontext():
                    self._lost += 1

    def close(self) -> None:
        """Write what waits, if that is possible soon."""
        self._lines.put(None)
        self._thread.join(STOP_S_MAX)
        super().close()


def record_of(fact: Fact) -> logging.LogRecord:
    """Return a record of a fact that passes by all loggers."""
    return logging.makeLogRecord(
        {"name": NAME, "levelno": _LEVELS[fact.level], "levelname": fact.level.upper(), FACT: fact}
    )


@dataclass(slots=True)
class _Going:
    """One kind of line that goes on."""

    began_s: float
    last_s: float
    period_s: float = MINUTE_S
    lines_max: int = KIND_LINES_MAX
    lines: int = 0
    """Since the period began."""

    def begin_again(self, now_s: float) -> None:
        """Begin a period, of twice the time and with one line if it goes on."""
        self.period_s, self.lines_max = min(2 * self.period_s, HOUR_S), 1
        self.began_s, self.lines = now_s, 0


class _LineLimit(logging.Filter):
    """Lets a few lines of each kind pass at first, then one a period that doubles, up to an hour, while it goes on.

    Facts that were held back by their own limit (``monitoring.facts``), with their counts, are not thinned out again.
    The writer's lock is held: another thread, or a finalizer in this one, cannot change what is looked through.
    """

    def __init__(self, writer: _LineWriter) -> None:
        """Begin the first minute with the first line; ``writer`` gets the sums of what was held back."""
        super().__init__()
        self._writer = writer
        self._began_s = 0.0
        self._said_s, self._quiet_s = 0.0, MINUTE_S
        self._kinds: dict[tuple[str, str], _Going] = {}
        self._held: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written now. Kinds are told apart before values are put in."""
        now_s = record.created
        if not 0.0 <= now_s - self._began_s < MINUTE_S:  # a clock may be set back
            self._began_s = now_s
            self._end_minute(now_s)
        kind = kind_of(record)
        if kind not in self._kinds and len(self._kinds) >= KINDS_MAX:
            kind = record.name, ""
        going = self._kinds.setdefault(kind, _Going(now_s, now_s))
        if not 0.0 <= now_s - going.began_s < going.period_s:
            going.begin_again(now_s)
            if is_limited_before(record):
                going.period_s, going.lines_max = MINUTE_S, KIND_LINES_MAX
        going.lines, going.last_s = going.lines + 1, now_s
        if going.lines <= going.lines_max:
            return True
        self._held[record.name] += 1
        return False

    def _end_minute(self, now_s: float) -> None:
        """Let what was quiet for an hour begin anew, and say what was held back, where that is due."""
        for kind, going in self._kinds.copy().items():  # a line may come from within
            if not 0.0 <= now_s - going.last_s < HOUR_S:
                self._kinds.pop(kind, None)
        is_over = not 0.0 <= now_s - self._said_s < self._quiet_s
        if self._held and is_over:
            self._said_s, self._quiet_s = now_s, min(2 * self._quiet_s, HOUR_S)
            self.say_held()
        elif is_over:
            self._quiet_s = MINUTE_S

    def say_held(self) -> None:
        """Say how many lines of which logger were held back."""
        held, self._held = self._held, Counter()
        if held:
            self._writer.say(Fact("log_lines_held_back", "warning", reasons=dict(held)))


def kind_of(record: logging.LogRecord) -> tuple[str, str]:
    """Return what lines that say the same share: logger, text without values, type and place of an error."""
    fact = getattr(record, FACT, None)
    if isinstance(fact, Fact):
        return record.name, f"{fact.event} {fact.key}"
    error = record.exc_info[1] if record.exc_info else None
    text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
    said = text_without_values(text) if record.name == ASYNCIO else text
    return record.name, said if error is None else f"{said} {raised_of(error)}"


def is_limited_before(record: logging.LogRecord) -> bool:
    """Return whether a record is a line of ``Facts``, which have waited for their period."""
    fact = getattr(record, FACT, None)
    return isinstance(fact, Fact) and fact.event not in HOOKED


def text_without_values(text: str) -> str:
    """Return the words that asyncio and uvloop begin a line with, without the callback, task or socket that follows.

    A callback is shown with its arguments, and a task by the name that a program gave it: either may be of a user.
    """
    return _VALUES.split(text.strip().partition("\n")[0], maxsplit=1)[0].rstrip(" :")


@contextmanager
def _hooked() -> Generator[None]:
    """Have warnings, and exceptions that end a thread or are raised where nobody can catch them, logged as facts."""
    before = warnings.showwarning, threading.excepthook, sys.unraisablehook
    warnings.showwarning = _on_warning
    threading.excepthook = _on_thread_error
    sys.unraisablehook = _on_unraisable
    try:
        yield
    finally:
        warnings.showwarning, threading.excepthook, sys.unraisablehook = before


def _on_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001  as Python calls it
    line: str | None = None,  # noqa: ARG001  likewise
) -> None:
    place = f"{filename}:{lineno}"
    fields = {"category": category.__name__, "place": place}
    log_fact(Fact("python_warning", "warning", fields, place, detail=str(message)))


def _on_thread_error(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is None or isinstance(told.exc_value, SystemExit):  # Python says nothing of it either
        return
    name, raised = "" if told.thread is None else told.thread.name, raised_of(told.exc_value)
    log_fact(Fact("thread_ended_by_bug", "error", {"thread": name}, str(raised), raised=raised))


def _on_unraisable(told: "sys.UnraisableHookArgs") -> None:
    if told.exc_value is not None:
        raised = raised_of(told.exc_value)
        log_fact(Fact("error_nobody_caught", "error", {}, str(raised), raised=raised, detail=str(told.exc_value)))
