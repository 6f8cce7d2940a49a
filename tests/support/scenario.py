"""Scenarios of clients: steps in words of the API, and what each answer holds (tests/scenarios)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parents[1] / "scenarios"
KINDS = {
    "text": lambda value: isinstance(value, str) and value != "",
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "absent": lambda value: value is None,
}


def scenario(name: str) -> Mapping[str, Any]:
    """Return a scenario: ``config`` of the server, and ``steps``."""
    found: Mapping[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return found


@dataclass
class Run:
    """A scenario that is being run: values that steps have kept."""

    kept: dict[str, object] = field(default_factory=dict)

    def filled(self, value: Any) -> Any:
        """Return a value with what was kept in place of its names."""
        if isinstance(value, str):
            return self.kept[value] if value.startswith("$") else value
        if isinstance(value, list):
            return [self.filled(each) for each in value]
        if isinstance(value, dict):
            return {name: self.filled(each) for name, each in value.items()}
        return value

    def check(self, step: Mapping[str, Any], answer: object) -> None:
        """Compare an answer with what a step expects, and keep what it names."""
        assert "error" not in step, f"{step} was to fail, and answered {answer}"
        document = msgspec.json.decode(msgspec.json.encode(answer))
        for pointer, expected in step.get("expect", {}).items():
            came = at(document, pointer)
            assert holds(came, self.filled(expected)), f"{step}: {pointer} is {came!r}"
        for name, pointer in step.get("keep", {}).items():
            self.kept[name] = at(document, pointer)

    def check_error(self, step: Mapping[str, Any], error: Any, url: str) -> None:
        """Compare a refusal with what a step expects."""
        assert "error" in step, f"{step} failed: {error}"
        came = {"status": error.status, "type": error.problem.type, "where": error.where, "page": error.page}
        expected = dict(step["error"])
        if "page" in expected:
            expected["page"] = url + expected["page"]
        assert {name: came[name] for name in expected} == expected, step


def at(document: object, pointer: str) -> Any:
    """Return the value at a JSON Pointer, None where there is none.

    Example:
        >>> at({"items": [{"id": "lamp"}]}, "/items/0/id"), at({}, "/items/0")
        ('lamp', None)
    """
    found: Any = document
    for name in steps_of(pointer):
        if isinstance(found, list):
            found = found[int(name)] if int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, dict) else None
    return found


def steps_of(pointer: str) -> Iterator[str]:
    """Yield the names of a pointer."""
    return (name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:])


def holds(came: Any, expected: Any) -> bool:
    """Return whether a value is what is expected: equal to it, or as an object with one of the words says.

    Example:
        >>> holds([{"id": "a"}], {"has": {"/id": "a"}}), holds([{"id": "a"}], {"lacks": {"/id": "a"}})
        (True, False)
    """
    if not isinstance(expected, dict):
        return bool(came == expected) and isinstance(came, bool) == isinstance(expected, bool)
    ((word, wanted),) = expected.items()
    if word == "is":
        return KINDS[wanted](came)
    if word == "length":
        return bool(len(came) == wanted)
    found = any(all(holds(at(row, pointer), value) for pointer, value in wanted.items()) for row in came)
    return {"has": found, "lacks": not found}[word]
