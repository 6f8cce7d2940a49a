"""Structured logging of a process: one pipeline for facts, for uvicorn and other libraries, and for Python's warnings.

Lines go to one stream, as text where it is a terminal and as one JSON object a line otherwise, each with its time
(UTC), level and event. Above the level ``debug`` a line never has what an exception or a warning says, nor more than
the first line of what a library says: an error is its type and the calls that led to it. What is not printable is
escaped.

A thread writes, from a queue with a maximum: a reader of the stream that stands still holds up no request, and what
found no room is counted. structlog formats; its own configuration, which a process has once, is left as it is.

Only programs of one's own, such as the server, use this module: it changes how the process logs, and puts that back.
"""

import logging
import queue
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Collection, Generator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import structlog

from midstream.core.tracebacks import raised_of
from midstream.monitoring.fact_logger import FACT, NAME, fields_of, log_fact
from midstream.monitoring.facts import MINUTE_S, Fact, Level, LogFormat
from midstream.ranking.boundary import boundary

LINES_WAITING_MAX = 1_000
"""For the stream: two minutes of the most that is written; 1 MB at 1 kB a line."""
KIND_LINES_MAX = 5
"""Of one kind a minute: enough to see what they have in common. Facts are fewer by themselves."""
KINDS_MAX = 600
"""Told apart in a minute: all facts, and 100 more. A library that puts values into its texts before it logs them makes
a kind of each."""
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
    if is_text(options, stream) and stream.isatty():
        writer.addFilter(lambda record: _event_of(record) not in options.on_screen)
    limit = _LineLimit(writer)
    writer.addFilter(limit)
    with ExitStack() as undo:
        undo.callback(writer.close)
        undo.callback(limit.end_minute)
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
        fields["logger"] = record.name
        error = record.exc_info[1] if record.exc_info else event.get("exc_info", (None, None))[1]
        if isinstance(error, BaseException):
            raised = raised_of(error)
            fields |= {"error": raised.kind, "traceback": list(raised.lines())}
            rest = f"{rest} {error}"
        if with_detail and rest.strip():
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

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line; where there is no room, count it."""
        failures: list[Any] = []
        with boundary(record.name, failures):  # values that a library cannot put into its own text
            line = self.format(record)
            self._put(line)
        if failures:
            fact = Fact("log_line_unreadable", "warning", {"logger": record.name})
            self._put(self.format(record_of(fact)))

    def _put(self, line: str) -> None:
        if self._lines.qsize() >= LINES_WAITING_MAX:
            self._lost += 1
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self._put(self.format(record_of(Fact("log_lines_lost", "warning", count=lost))))
        self._lines.put(line)

    def _write(self) -> None:
        for line in iter(self._lines.get, None):
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more, or it is closed
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


class _LineLimit(logging.Filter):
    """Lets a few lines of each kind pass a minute."""

    def __init__(self, writer: _LineWriter) -> None:
        """Begin the first minute with the first line; ``writer`` gets the sums of what was held back."""
        super().__init__()
        self._writer = writer
        self._began_s = 0.0
        self._lines: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written now. Kinds are told apart before values are put in."""
        if record.created - self._began_s >= MINUTE_S:
            self.end_minute()
            self._began_s = record.created
        fact = getattr(record, FACT, None)
        kind = record.name, f"{fact.event} {fact.key}" if isinstance(fact, Fact) else str(record.msg)
        if kind not in self._lines and len(self._lines) >= KINDS_MAX:
            kind = record.name, ""
        self._lines[kind] += 1
        return self._lines[kind] <= KIND_LINES_MAX

    def end_minute(self) -> None:
        """Say how many lines of which logger were held back."""
        lines, self._lines = self._lines, Counter()
        held: Counter[str] = Counter()
        for (name, _), count in lines.items():
            held[name] += max(0, count - KIND_LINES_MAX)
        if held.total():
            reasons = {name: count for name, count in held.items() if count}
            self._writer.emit(record_of(Fact("log_lines_held_back", "warning", reasons=reasons)))


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
    name = "" if told.thread is None else told.thread.name
    if told.exc_value is not None:
        log_fact(Fact("thread_ended_by_bug", "error", {"thread": name}, raised=raised_of(told.exc_value)))


def _on_unraisable(told: "sys.UnraisableHookArgs") -> None:
    if told.exc_value is not None:
        log_fact(Fact("error_nobody_caught", "error", raised=raised_of(told.exc_value), detail=str(told.exc_value)))
