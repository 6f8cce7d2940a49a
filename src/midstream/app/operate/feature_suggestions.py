"""Suggested feature declarations for a folder: reads its log and catalogue, and writes valid TOML.

Changes nothing; a server may have the folder open. Equal logs and configurations give equal text.
"""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from keyword import iskeyword
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow.compute

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import CONFIG_NAME
from midstream.core.field_bounds import NAME_BYTES_MAX
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.type_faults import is_table
from midstream.core.types import EventBatch
from midstream.events.arrow.to_arrow import to_table
from midstream.events.schema import TEXTS, pick, texts_of
from midstream.events.wire import VECTOR_LENGTH_MAX
from midstream.features.kinds.kinds import AnyFeature
from midstream.features.suggestions import AttributeLook, Look, Suggestion, TypeLook, suggestions
from midstream.state.attributes.attributes import VALUE_BYTES_MAX, number_of, text_of
from midstream.state.attributes.vectors import vector_of
from midstream.state.fold import Fold
from midstream.state.items.items import AVAILABLE

ITEMS_MAX = 50_000
"""Documents looked at, evenly over the catalogue: 10 µs each."""
TEXTS_MAX = 50_000
"""Distinct texts counted of each attribute."""
VALUES_MAX = 64
"""Of them named: no list of values is longer."""
NAMES_MAX = 256
"""Attributes and context values looked at, the first ones."""
CONTEXTS_A_BATCH = 20
"""Events of each batch of the log whose context is read."""
_MOSTLY = 0.9
"""Share of an attribute's values that make it what it is."""
_BODY = TEXTS.index("body")
pc: Any = pyarrow.compute


@dataclass(slots=True)
class _Told:
    """What items say under one name."""

    kinds: Counter[str] = field(default_factory=Counter[str])
    texts: Counter[str] = field(default_factory=Counter[str])


@dataclass(slots=True)
class _Acted:
    """What the log says."""

    counts: Counter[str] = field(default_factory=Counter[str])
    values: Counter[str] = field(default_factory=Counter[str])
    context: Counter[str] = field(default_factory=Counter[str])
    first_ms: int = 0
    last_ms: int = 0


def suggest(folder: Path, config: Config) -> str:
    """Return TOML to append to ``midstream.toml``, with a reason above each declaration.

    Args:
        folder: Its log is read once, its state as at the end.
        config: Of that folder; its declarations are not proposed again.

    Cost: 0.3 µs an event and 10 µs an item, and the load of the state.

    Raises:
        LogDamaged: The log cannot be trusted.
    """
    log = LogView(folder)
    fold = state_of(folder, config, log).fold
    look = look_at(fold, config, log.batches())
    declared = {each.name for each in config.features}
    same = {msgspec.structs.replace(each, name="") for each in config.features}
    new = [
        each
        for each in suggestions(look)
        if each.feature.name not in declared and msgspec.structs.replace(each.feature, name="") not in same
    ]
    return toml_of(look, new, has_attributes=_has_attributes(folder))


def look_at(fold: Fold, config: Config, batches: Iterator[EventBatch]) -> Look:
    """Return the figures that suggestions are made of."""
    acted = _Acted()
    for batch in batches:
        _note(batch, acted)
    types = {name: _type(acted, name, each.weight) for name, each in config.events.types.items()}
    return Look(
        types={**types, IMPRESSION: _type(acted, IMPRESSION, 0.0)},
        span_ms=acted.last_ms - acted.first_ms,
        users=fold.vocabulary.user_count,
        items=fold.vocabulary.item_count,
        sessions=fold.session_index.session_count,
        context=tuple(sorted(acted.context)),
        attributes=_attributes(fold, config),
    )


def _type(acted: _Acted, name: str, weight: float) -> TypeLook:
    return TypeLook(acted.counts[name], acted.values[name], weight)


def toml_of(look: Look, found: Sequence[Suggestion], *, has_attributes: bool) -> str:
    """Return TOML: what was looked at, attributes to declare, declarations, and what a placement would say.

    Args:
        look: The figures.
        found: In the order in which they are written.
        has_attributes: The file has ``[items.attributes]``, which TOML lets nobody write twice.
    """
    counts = ", ".join(f"{each.count:,} {name}" for name, each in sorted(look.types.items()) if each.count)
    lines = [
        "# First features, from what the log and the catalogue hold (midstream features suggest).",
        f"# Seen: {counts or 'no events'}; {look.users:,} users, {look.items:,} items, {look.sessions:,} sessions.",
        "",
    ]
    needed = {each.needs: look.attributes[each.needs] for each in found if each.needs}
    if needed:
        mark = "# " if has_attributes else ""
        if has_attributes:
            lines.append("# To be added to [items.attributes]; what reads them stands below as a comment until then:")
        else:
            lines.append("[items.attributes]")
        for name, attribute in needed.items():
            lines.append(f"# {attribute.coverage:.0%} of the items have it")
            lines.append(f"{mark}{name} = {_toml(attribute.kind)}")
        lines.append("")
    for each in found:
        mark = "# " if each.needs and has_attributes else ""
        lines += [_comment(each.why), *(f"{mark}{line}" for line in _declaration(each.feature)), ""]
    names = [each.feature.name for each in found if not (each.needs and has_attributes)]
    if names:
        lines += ["# A placement whose scorers are to read them:", f"# features = {_toml(names)}"]
    return "\n".join(lines).rstrip() + "\n"


def _declaration(feature: AnyFeature) -> list[str]:
    """Return the lines of one declaration, without what is the default anyway."""
    told = cast("Mapping[str, object]", msgspec.to_builtins(feature, enc_hook=str))
    defaults = {each.name: each.default for each in msgspec.structs.fields(feature)}
    lines = {"name": feature.name, "kind": told["kind"]}
    lines |= {
        name: value for name, value in told.items() if name in defaults and getattr(feature, name) != defaults[name]
    }
    return ["[[features]]", *(f"{name} = {_toml(value)}" for name, value in lines.items())]


def _toml(value: object) -> str:
    """Return texts, numbers, truth values and lists of them as TOML: as JSON, but for one character."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, cast('Sequence[object]', value)))}]"
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """Return a line of a comment: names may hold anything."""
    return f"# {''.join(each if each.isprintable() else '?' for each in text)}"


def _has_attributes(folder: Path) -> bool:
    path = folder / CONFIG_NAME
    items = tomllib.loads(path.read_text("utf-8")).get("items") if path.exists() else None
    return is_table(items) and "attributes" in items


def _note(batch: EventBatch, acted: _Acted) -> None:
    """Add the events of a batch."""
    acted.counts[IMPRESSION] += int((batch.rows["kind"] == Kind.IMPRESSION).sum())
    acts = np.flatnonzero(batch.rows["kind"] == Kind.INTERACTION)
    if not len(acts):
        return
    table = to_table(pick(batch, acts))
    types, is_valued = table.column("type"), pc.is_valid(table.column("value"))
    for counter, column in ((acted.counts, types), (acted.values, types.filter(is_valued))):
        counter.update({each["values"]: each["counts"] for each in pc.value_counts(column).to_pylist()})
    times = batch.rows["event_time_ms"][acts]
    first, last = int(times.min()), int(times.max())
    acted.first_ms = min(acted.first_ms or first, first)
    acted.last_ms = max(acted.last_ms, last)
    for at in acts[:: max(1, len(acts) // CONTEXTS_A_BATCH)].tolist():
        if len(acted.context) < NAMES_MAX:
            acted.context.update(_names_of(texts_of(batch, at)[_BODY]))


def _names_of(body: bytes) -> list[str]:
    """Return the names in the context of an interaction."""
    try:
        told: object = msgspec.json.decode(body) if body else None
    except msgspec.MsgspecError:
        return []
    return [*told] if is_table(told) else []


def _attributes(fold: Fold, config: Config) -> dict[str, AttributeLook]:
    """Return what items say, by name."""
    items = fold.items
    known = [index for index in range(fold.vocabulary.item_count) if items.exists(index)]
    looked_at = known[:: max(1, -(-len(known) // ITEMS_MAX))]
    told: dict[str, _Told] = {}
    for index in looked_at:
        for name, value in sorted(items.document(index).items()):
            if name in told or len(told) < NAMES_MAX:
                is_coded = config.items.attributes.get(name) in {"category", "tags"}
                _note_value(told.setdefault(name, _Told()), text_of(value) if is_coded and _is_plain(value) else value)
    found: dict[str, AttributeLook] = {}
    for name, each in sorted(told.items()):
        kind = config.items.attributes.get(name) or _kind_of(each.kinds)
        if kind and _can_be_declared(name):
            count = sum(each.kinds.values())
            values = sorted(each.texts.items(), key=lambda one: (-one[1], one[0]))[:VALUES_MAX]
            found[name] = AttributeLook(
                kind,
                name in config.items.attributes,
                items=count,
                coverage=count / len(looked_at),
                values=tuple(text for text, _ in values),
                distinct=len(each.texts),
            )
    return found


def _can_be_declared(name: str) -> bool:
    """Return whether ``[items.attributes]`` may have a name: one that a filter can write."""
    is_word = name.isascii() and name.isidentifier() and not iskeyword(name)
    return is_word and name != AVAILABLE and len(name) <= NAME_BYTES_MAX


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float)


def _note_value(told: _Told, value: object) -> None:
    if isinstance(value, bool):
        told.kinds["boolean"] += 1
    elif isinstance(value, list):
        entries = cast("list[object]", value)
        is_vector = len(entries) > 1 and vector_of(entries, len(entries)) is not None
        told.kinds[f"vector:{len(entries)}" if is_vector and len(entries) <= VECTOR_LENGTH_MAX else "tags"] += 1
        for each in entries:
            _note_text(told, each)
    elif isinstance(value, str):
        told.kinds["category"] += 1
        _note_text(told, value)
    elif not np.isnan(number_of(value)):
        told.kinds["number"] += 1


def _note_text(told: _Told, value: object) -> None:
    is_kept = isinstance(value, str) and len(value.encode("utf-8", "replace")) <= VALUE_BYTES_MAX
    if is_kept and (value in told.texts or len(told.texts) < TEXTS_MAX):
        told.texts[str(value)] += 1


def _kind_of(kinds: Counter[str]) -> str:
    """Return the kind that nearly all values are of, empty = there is none."""
    total = sum(kinds.values())
    return next((kind for kind, count in sorted(kinds.items()) if count >= _MOSTLY * total), "")
