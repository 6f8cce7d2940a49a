"""Facts in the standard library's logger ``midstream``, which a program that embeds the engine may configure.

As a library should, this module configures nothing: a fact is a record with its event and fields as a text, and as
attributes for structured formatters. Without a handler it is dropped.

Reference: Python's logging HOWTO, "Configuring Logging for a Library".
"""

import logging

from midstream.monitoring.facts import Fact

NAME = "midstream"
FACT = "fact"
"""Attribute of a record that has its ``Fact``."""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
logging.getLogger(NAME).addHandler(logging.NullHandler())


def log_fact(fact: Fact) -> None:
    """Log a fact, if its level is enabled."""
    logger = logging.getLogger(NAME)
    level = _LEVELS[fact.level]
    if logger.isEnabledFor(level):
        logger.log(level, "%s", _text(fact), extra={FACT: fact})


def fields_of(fact: Fact, *, with_detail: bool) -> dict[str, object]:
    """Return the fields of a line in their order; ``with_detail`` adds those with texts of callers."""
    found: dict[str, object] = dict(fact.fields)
    if fact.count > 1:
        found["count"] = fact.count
    if fact.reasons:
        found["reasons"] = dict(sorted(fact.reasons.items()))
    if fact.raised is not None:
        found["error"] = str(fact.raised.kind)
        found["traceback"] = list(fact.raised.lines())
    if with_detail and fact.detail:
        found["detail"] = fact.detail
    return found


def _text(fact: Fact) -> str:
    with_detail = logging.getLogger(NAME).isEnabledFor(logging.DEBUG)
    fields = fields_of(fact, with_detail=with_detail)
    return " ".join((fact.event, *(f"{name}={value}" for name, value in fields.items())))
