r"""Search of many texts for many ids: exact, as a whole value or name, never within another word.

A text is looked at twice. First each of its places is looked up among the beginnings of the ids, so the cost grows with
the texts and hardly with the ids: 40 ns a byte. Where the characters of an id stand it is then read as what it is:

- JSON, such as an event: each text in it at any depth, each name of a field, each number but those that count or date
  something (``COUNTS``), and what is JSON or MessagePack within a text, has to be an id as a whole;
- anything else, such as a line that was cut or a row of cells: an id has to stand between characters that go on with
  no id (quotes, separators, white space, the ends).

Escapes (``\u0061``) and numbers that are written in another way (``42.0``) are what they stand for.
"""

import json
import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import cast

import msgspec
import numpy as np

from midstream.core.types import Mask
from midstream.events.values import AVAILABLE, MERGED
from midstream.events.wire import EVENT_FIELDS, ITEM_FIELDS, TRUSTED_FIELDS

WINDOW_BYTES = 8
"""Of an id's beginning, as one 64-bit number; a shorter id is its own beginning."""
COUNTS = frozenset(("value", "quantity", "position", "time", "log_time"))
"""Fields of events whose numbers are nobody's."""
OWN_NAMES = frozenset((*EVENT_FIELDS, *ITEM_FIELDS, *TRUSTED_FIELDS, "events", AVAILABLE, MERGED))
"""Names of fields that each event has: they name nobody, even where somebody's id is such a word."""
LEVELS_MAX = 4
"""Of JSON within a text of JSON: each has its own escapes. An attribute that an import sends as JSON is the second."""
_PACKED = "content_base64"
"""Field of an event that an export wrote: bytes of a body that is no JSON."""
_PART = re.compile(r"[\w.@+-]")
"""A character that goes on with an id in a text that is no JSON; ids may have others, and any other ends one."""
_CHAR_BYTES_MAX = 4
_ESCAPE = re.compile(r'\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|["\\/bfnrt])')
_ESCAPED = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_WHOLE = re.compile(r"(-?\d+)\.0+")
_WORD = re.compile(r"[\w.@+-]+")
_NOT_JSON = (ValueError, RecursionError)


class _Number(str):
    """A number of JSON, as it is written."""

    __slots__ = ()


class _Fields(list[tuple[str, object]]):
    """An object of JSON: names may come twice, and each counts."""


_read = json.JSONDecoder(
    strict=False, parse_int=_Number, parse_float=_Number, parse_constant=_Number, object_pairs_hook=_Fields
).decode


class IdSearch:
    """Some ids, to be found in texts."""

    def __init__(self, ids: Iterable[str]) -> None:
        """Look for these; an empty one is nowhere."""
        self.ids = frozenset(ids) - {""}
        self._encoded = frozenset(map(_encoded, self.ids))
        beginnings: dict[int, dict[int, set[int]]] = {}
        for each in self._encoded:
            width = min(len(each), WINDOW_BYTES)
            beginning = int.from_bytes(each[:width], "little")
            beginnings.setdefault(width, {}).setdefault(beginning, set()).add(len(each))
        self._lengths = beginnings
        """Width in bytes, then beginning, to the lengths of the ids that begin so."""
        self._keys = {width: np.array(sorted(found), dtype=np.uint64) for width, found in beginnings.items()}

    def touched(self, texts: Sequence[str]) -> Mask:
        """Return which texts have the characters of an id in them, wherever, (n,): all that name one, and more."""
        owners: list[int] = []
        readings: list[bytes] = []
        found = np.zeros(len(texts), dtype=np.bool_)
        for place, text in enumerate(texts):
            found[place] = bool(self.ids) and _PACKED in text
            for reading in _readings(text):
                owners.append(place)
                readings.append(_encoded(reading))
        touched: set[int] = set()
        for reading_at, _, _ in self._places(readings, touched):
            touched.add(reading_at)
            found[owners[reading_at]] = True
        return found

    def is_named_in(self, text: str) -> bool:
        """Return whether what somebody sent names an id. Cost: 20 µs for JSON of 300 bytes, 10 ms for 256 KiB."""
        try:
            value = _read(text)
        except _NOT_JSON:
            return any(self._is_token(each, is_raw=each is text) for each in _readings(text))
        return any(map(self._is_id, _values(value)))

    def is_quoted_in(self, sentence: str) -> bool:
        """Return whether a sentence of ours quotes an id that came."""
        return any(_is_foreign(each) and self.is_named_in(each) for each in _QUOTED.findall(sentence))

    def is_step_of(self, pointer: str) -> bool:
        """Return whether a pointer leads over an id. Digits alone are taken for a place in a list."""
        steps = (step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])
        return any(step in self.ids and step not in OWN_NAMES and not step.isdecimal() for step in steps)

    def _is_id(self, value: str) -> bool:
        if value in self.ids:
            return True
        whole = _WHOLE.fullmatch(value) if isinstance(value, _Number) else None
        return whole is not None and whole[1] in self.ids

    def _is_token(self, text: str, *, is_raw: bool) -> bool:
        """Return whether an id stands between characters that are no part of one.

        Where a backslash may begin an escape, only an id that has one is looked for in the text as it is.
        """
        encoded = _encoded(text)
        for _, start, length in self._places([encoded]):
            end = start + length
            if is_raw and b"\\" in encoded and b"\\" not in encoded[start:end]:
                continue
            before = encoded[max(0, start - _CHAR_BYTES_MAX) : start].decode(errors="replace")[-1:]
            after = encoded[end : end + _CHAR_BYTES_MAX].decode(errors="replace")[:1]
            if not _PART.fullmatch(before) and not _PART.fullmatch(after):
                return True
        return False

    def _places(self, encoded: Sequence[bytes], passed: Collection[int] = ()) -> Iterator[tuple[int, int, int]]:
        """Yield where an id stands: number of the text, place in it, and length, in bytes. None is across two texts.

        Texts of which the numbers are in ``passed`` are passed by, also those that come into it meanwhile.
        """
        lengths = np.array([len(each) for each in encoded], dtype=np.int64)
        ends = np.cumsum(lengths)
        begins: list[int] = (ends - lengths).tolist()
        whole = b"".join(encoded)
        padded = whole + bytes(WINDOW_BYTES)
        windows = np.ndarray((len(whole),), dtype=np.dtype("<u8"), buffer=padded, strides=(1,))
        for width, keys in self._keys.items():
            beginning = windows & np.uint64((1 << 8 * width) - 1)
            place = np.minimum(np.searchsorted(keys, beginning), len(keys) - 1)
            starts = np.flatnonzero(keys[place] == beginning)
            texts_at = np.searchsorted(ends, starts, side="right")
            for start, text in zip(starts.tolist(), texts_at.tolist(), strict=True):
                if text in passed:
                    continue
                for length in self._lengths[width][int(beginning[start])]:
                    if start + length <= int(ends[text]) and whole[start : start + length] in self._encoded:
                        yield text, start - begins[text], length


def _values(value: object) -> Iterator[str]:
    """Yield all in a value of JSON that may be an id: texts, names of fields, numbers, and those in texts of JSON."""
    waiting: list[tuple[object, int]] = [(value, 1)]
    while waiting:
        each, level = waiting.pop()
        if isinstance(each, _Fields):
            for name, field in each:
                if name not in OWN_NAMES:
                    yield name
                if name == _PACKED and isinstance(field, str):
                    yield from _packed(field)
                elif name not in COUNTS or not isinstance(field, _Number):
                    waiting.append((field, level))
        elif isinstance(each, list):
            waiting.extend((one, level) for one in cast("list[object]", each))
        elif isinstance(each, str):
            yield each
            if level < LEVELS_MAX and each.lstrip()[:1] in {"{", "[", '"'}:
                try:
                    waiting.append((_read(each), level + 1))
                except _NOT_JSON:
                    continue


def _packed(text: str) -> Iterator[str]:
    """Yield the texts in bytes that an export wrote as base64: of MessagePack its texts, of others their words."""
    try:
        raw = b64decode(text)
    except (NotBase64, ValueError):
        return
    try:
        waiting: list[object] = [msgspec.msgpack.decode(raw)]
    except (msgspec.DecodeError, ValueError):
        yield from _WORD.findall(raw.decode(errors="replace"))
        return
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            for name, field in cast("dict[object, object]", each).items():
                waiting += (name, field)
        elif isinstance(each, list):
            waiting.extend(cast("list[object]", each))


def _is_foreign(quoted: str) -> bool:
    """Return whether a quoted word is none of ours."""
    return quoted[1:-1] not in OWN_NAMES


def _readings(text: str) -> Iterator[str]:
    """Yield a text as it is, then with its escapes resolved, once for each level that there may be.

    One with NUL in it is read without them too: so UTF-16 comes out that was taken for UTF-8.
    """
    for each in (text, text.replace("\0", "")) if "\0" in text else (text,):
        plain = each
        yield plain
        for _ in range(LEVELS_MAX):
            resolved = unescaped(plain)
            if resolved is plain:
                break
            plain = resolved
            yield plain


def unescaped(text: str) -> str:
    """Return a text whose escapes of JSON are the characters that they stand for; the same object where it has none."""
    if "\\" not in text:
        return text
    found = _ESCAPE.sub(lambda each: _ESCAPED.get(each[1]) or chr(int(each[1][1:], 16)), text)
    # Two escapes of a surrogate pair are one character.
    return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
