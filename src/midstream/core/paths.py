"""Paths into what a file or a body says, step by step: ``$.placements[0].weights["a.b"]``."""

import json
import re
from collections.abc import Iterable

_PLAIN = re.compile(r'[^.\[\]"\\]+')
_STEP = re.compile(r'\.([^.\[\]]+)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]')


def step(key: str) -> str:
    """Return the step of a path that leads to a key, in quotes and brackets where it could be read as several.

    Example:
        >>> step("popular"), step("a.b"), step("")
        ('.popular', '["a.b"]', '[""]')
    """
    is_plain = _PLAIN.fullmatch(key) and key.isprintable()
    return f".{key}" if is_plain else f"[{json.dumps(key, ensure_ascii=False)}]"


def path_text(path: Iterable[str | int], begin: str = "$") -> str:
    """Return the path of keys and places, in order.

    Example:
        >>> path_text(("placements", 0, "weights", "a.b"))
        '$.placements[0].weights["a.b"]'
    """
    return begin + "".join(f"[{each}]" if isinstance(each, int) else step(each) for each in path)


def steps(path: str) -> list[str | int]:
    """Return the keys and places of a path, in order, whatever stands before its first step.

    Example:
        >>> steps('$.placements[0].weights["a.b"]'), steps("$")
        (['placements', 0, 'weights', 'a.b'], [])
    """
    return [name or (int(number) if number else json.loads(key)) for name, number, key in _STEP.findall(path)]
