"""Constraints of ``[[models]]``, and of the sources that use a model."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from midstream.app.config.bounds import distinct, duration_ms, known, within
from midstream.app.config.schema import Config, Model
from midstream.core.errors import Fault, Invalid
from midstream.core.paths import step
from midstream.events.wire import vector_length
from midstream.features.kinds.kinds import columns_of, impression_features
from midstream.models.kinds import ITEM_KINDS, ROW_KINDS, ItemKind, RowKind
from midstream.models.loading import READ
from midstream.models.rows.ftrl import FtrlOptions
from midstream.models.rows.online_sums import INPUTS_MAX, ONLINE_BINS_MAX
from midstream.models.text_encoder.specs import SPECS
from midstream.retrieval.item_model import SERVES, ItemModelSource
from midstream.state.expressions.program import Expression
from midstream.training.options import EVENTS_MIN, EVERY_MS_MAX, EVERY_MS_MIN, TrainingTable

PAGE, SOURCES, TRAININGS = "/docs/models.md", "/docs/sources.md", "/docs/continuous-training.md"
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_TIMES = 'A log position, or a time such as "2026-01-31" or "2026-01-31T12:00:00Z".'


def model_faults(config: Config) -> Iterator[Fault]:
    """Yield everything that is wrong with the models of a configuration."""
    yield from distinct((f"$.models[{n}].name", each.name) for n, each in enumerate(config.models))
    for number, model in enumerate(config.models):
        where = f"$.models[{number}]"
        if not NAME_CHARACTERS.issuperset(model.name) or not model.name[:1].isalpha():
            right = "Small letters, digits and _, a letter first: it names a folder."
            yield Fault(f"{where}.name", f'"{model.name}" came.', right, PAGE)
        yield from _kind(config, model, where)
        yield from _range(model, where)
        yield from _actions(config, model, where)


def replay_faults(config: Config, columns: Mapping[str, Expression]) -> Iterator[Fault]:
    """Yield a fault for each feature that leaks the screen before an act into a ranker's replay.

    A replay reads features right before each act, after the impressions that led to it: the item of the act was seen
    just then, so such a feature predicts acts in training. In service these impressions are still to come, and the
    feature has another meaning.

    Args:
        config: All of it.
        columns: Expressions of the columns of its features; constants where these have faults.
    """
    by_name = {each.name: each for each in config.features}
    reads = {each.name: each.features for each in config.placements}
    for number, model in enumerate(config.models):
        read = reads.get(model.placement, ()) if model.examples == "replay" else ()
        for name in impression_features([by_name[each] for each in read if each in by_name], columns):
            came = f'"replay" came, and the feature "{name}" of the placement "{model.placement}" counts impressions: '
            came += "those that led to an act would tell which candidates were on screen."
            right = f'examples = "served", or a placement without "{name}" to learn from.'
            yield Fault(f"$.models[{number}].examples", came, right, PAGE)


def model_source_faults(config: Config, source: ItemModelSource, place: str) -> Iterator[Fault]:
    """Yield the faults of a source that uses a model."""
    ring = config.limits.user_ring_max
    yield from within(f"{place}.history_items_max", source.history_items_max, 1, max(ring, 1), SOURCES)
    yield from _weights(config, source.actions, f"{place}.actions", SOURCES)
    by_name = {each.name: each for each in config.models}
    yield from known(f"{place}.model", source.model, by_name, "a model", "One of [[models]]", SOURCES)
    if (model := by_name.get(source.model)) is None:
        return
    kind = str(type(source).__struct_config__.tag)
    for other, kinds in SERVES.items():
        if model.kind in kinds and other != kind:
            came = f'The model "{model.name}" is of kind {model.kind}.'
            yield Fault(f"{place}.kind", came, f'kind = "{other}" answers with it.', SOURCES)


def options_of(model: Model, kind: ItemKind[Any] | RowKind[Any]) -> msgspec.Struct:
    """Return the options of a fit, with the seed of the model where the kind has one and the options name none.

    Raises:
        Invalid: The kind does not accept them.
    """
    seed = {"seed": model.seed} if "seed" in kind.options.__struct_fields__ else {}
    found: msgspec.Struct = kind.decoded({**seed, **model.options})
    return found


def _kind(config: Config, model: Model, where: str) -> Iterator[Fault]:
    """Yield a fault unless the kind is known and its options are right."""
    found = ITEM_KINDS.get(model.kind) or ROW_KINDS.get(model.kind)
    kinds = (*ITEM_KINDS, *ROW_KINDS, *READ)
    yield from known(f"{where}.kind", model.kind, kinds, "a kind of model", "Kinds", PAGE)
    if model.kind in READ:
        yield from _not_fitted(model, where)
    if found is None:
        return
    if isinstance(found, RowKind):
        yield from _ranked(config, model, where)
    yield from _unread(model, where, "rows" if isinstance(found, RowKind) else "acts")
    try:
        options = options_of(model, found)
    except Invalid as error:
        yield from (Fault(f"{where}.{each.where}", each.came, each.right, PAGE) for each in error.faults)
        return
    yield from _debiasing(model, options, f"{where}.options")
    yield from _online(config, model, options, where)


def _unread(model: Model, where: str, learns_from: Literal["acts", "rows"]) -> Iterator[Fault]:
    """Yield a fault for each non-default setting that a model of the kind does not read."""
    plain = Model(model.name, model.kind)
    for name in ("placement", "examples", "first_attributes") if learns_from == "acts" else ("histories", "acts_max"):
        told = getattr(model, name)
        if told != getattr(plain, name):
            shown = msgspec.json.encode(told).decode()
            came = f"{shown} came, and a model of kind {model.kind} learns from {learns_from}."
            yield Fault(f"{where}.{name}", came, "Leave it out.", PAGE)


def _not_fitted(model: Model, where: str) -> Iterator[Fault]:
    """Yield a fault for each setting of a fit where the model comes from elsewhere."""
    plain = Model(model.name, model.kind)
    for name in sorted({*Model.__struct_fields__} - {"name", "kind", "actions"}):
        if getattr(model, name) != getattr(plain, name):
            came = f"It came, and a model of kind {model.kind} is not fitted here: it is imported or registered."
            yield Fault(f"{where}.{name}", came, "Leave it out.", PAGE)


def _debiasing(model: Model, options: msgspec.Struct, where: str) -> Iterator[Fault]:
    """Yield a fault for a debiasing without the data that it needs, or without an effect."""
    debias = getattr(options, "debias", "none")
    if debias != "none" and model.examples == "replay":
        came = f'"{debias}" came with examples = "replay": nobody was shown these rows at a place, or by chance.'
        yield Fault(f"{where}.debias", came, 'examples = "served", or debias = "none".', PAGE)
    elif debias == "position" and getattr(options, "objective", "") == "binary":
        came = '"position" came with objective = "binary".'
        yield Fault(f"{where}.debias", came, 'objective = "lambdarank", debias = "propensity", or kind = "ftrl".', PAGE)
    if debias != "propensity" and "weight_max" in model.options:
        came = f'It bounds what a propensity brings, and debias = "{debias}" reads none.'
        yield Fault(f"{where}.weight_max", came, 'debias = "propensity", or leave it out.', PAGE)


def _online(config: Config, model: Model, options: msgspec.Struct, where: str) -> Iterator[Fault]:
    """Yield a fault for each reason why a model cannot go on learning from outcomes."""
    if model.online is None:
        return
    if not isinstance(options, FtrlOptions):
        came = f"It came, and a model of kind {model.kind} learns by its training alone."
        yield Fault(f"{where}.online", came, 'kind = "ftrl", or leave it out.', PAGE)
        return
    if options.is_standardised:
        came = "true came, and what goes on learning is told the bins of values alone."
        yield Fault(f"{where}.options.is_standardised", came, "is_standardised = false.", PAGE)
    if options.bins > ONLINE_BINS_MAX:
        right = f"At most {ONLINE_BINS_MAX} of a model with online."
        yield Fault(f"{where}.options.bins", f"{options.bins} came.", right, PAGE)
    yield from _online_inputs(config, model, f"{where}.online")
    if options.debias == "propensity":
        came = '"propensity" came, and no propensity is known of what is learned online.'
        yield Fault(f"{where}.options.debias", came, 'debias = "position" or "none".', PAGE)
    if model.online.wait.ms > config.feedback.window.ms:
        came = f"{model.online.wait} came, and outcomes are joined for {config.feedback.window}."
        yield Fault(f"{where}.online.wait", came, "At most [feedback] window.", PAGE)
    if not next(each.clicks for each in config.fold_settings().online if each.name == model.name):
        came = "No action is worth more than 0, so nothing would be a click."
        yield Fault(f"{where}.actions", came, "{ click = 1.0 }, say.", PAGE)


def _online_inputs(config: Config, model: Model, where: str) -> Iterator[Fault]:
    """Yield a fault for a placement with more columns than a version that goes on learning may have inputs.

    Such a version would be fitted and then refused, each time.
    """
    read = {name for each in config.placements if each.name == model.placement for name in each.features}
    columns = columns_of([each for each in config.features if each.name in read])
    count = len(read - columns.keys()) + sum(map(len, columns.values()))
    if count > INPUTS_MAX:
        came = f'The placement "{model.placement}" has {count} columns, each an input of the model.'
        yield Fault(where, came, f"At most {INPUTS_MAX} columns of a model with online.", PAGE)


def _ranked(config: Config, model: Model, where: str) -> Iterator[Fault]:
    """Yield a fault unless a ranker learns from a placement that has features to learn from."""
    by_name = {each.name: each for each in config.placements}
    placement = by_name.get(model.placement)
    right = "A ranker learns from one of"
    yield from known(f"{where}.placement", model.placement, by_name, "a placement", right, PAGE)
    if placement is not None and not placement.features:
        came = f'The placement "{model.placement}" reads no features.'
        yield Fault(f"{where}.placement", came, 'features = ["..."] of the placement: what it ranks by.', PAGE)


def _range(model: Model, where: str) -> Iterator[Fault]:
    """Yield the faults of the part of the log."""
    if model.last and (model.since != "" or model.until != ""):
        yield Fault(f"{where}.last", f"{model.last} came beside since or until.", "One or the other.", PAGE)
    if model.last:
        yield from duration_ms(f"{where}.last", model.last, 'A length of time such as "30d", or "" for all.', PAGE)
    for name in ("since", "until"):
        told = getattr(model, name)
        if told != "" and moment_of(told) is None:
            yield Fault(f"{where}.{name}", f"{told!r} came.", _TIMES, PAGE)
    if _is_empty(model.since, model.until):
        came = f"{model.until!r}, and since is {model.since!r}: no event lies between."
        yield Fault(f"{where}.until", came, "A time or log position after since.", PAGE)


def _is_empty(since: str | int, until: str | int) -> bool:
    """Return whether a range ends before it begins; a time and a log position are not compared."""
    first, stop = (None if each == "" else moment_of(each) for each in (since, until))
    if isinstance(first, datetime) and isinstance(stop, datetime):
        begin, end = (each if each.tzinfo else each.replace(tzinfo=UTC) for each in (first, stop))
        return begin >= end
    return isinstance(first, int) and isinstance(stop, int) and first >= stop


def moment_of(told: str | int) -> int | datetime | None:
    """Return a log position, or a time; None = it is neither."""
    if isinstance(told, int):
        return told if told >= 0 else None
    try:
        return datetime.fromisoformat(told)
    except ValueError:
        return None


def _actions(config: Config, model: Model, where: str) -> Iterator[Fault]:
    """Yield the faults of weights of acts; one at least must be above 0."""
    yield from _weights(config, model.actions, f"{where}.actions", PAGE)
    if not model.actions and not any(each.weight > 0.0 for each in config.events.types.values()):
        yield Fault(f"{where}.actions", "No configured type has a weight above 0.", "{ view = 1.0 }, say.", PAGE)


def _weights(config: Config, actions: dict[str, float], where: str, page: str) -> Iterator[Fault]:
    for name in actions:
        what = "a configured interaction"
        yield from known(f"{where}{step(name)}", name, config.events.types, what, "Some of", page)


_EVERY = 'A length of time from "1m" to "365d", or "".'
WARM_KINDS = ("als", "ftrl")
"""Kinds of models that go on from what a version has learned."""

AWAITED_MS_MAX = 86_400_000
"""Outcomes that are awaited for longer are known when an alarm of the calibration, which is about a day, is over."""


def training_faults(config: Config) -> Iterator[Fault]:
    """Yield what is wrong with ``[[trainings]]``."""
    trainings, kinds = config.trainings, {each.name: each.kind for each in config.models}
    window = config.feedback.window
    yield from distinct(((f"$.trainings[{n}].model", each.model) for n, each in enumerate(trainings)), page=TRAININGS)
    for number, each in enumerate(trainings):
        where = f"$.trainings[{number}]"
        yield from known(f"{where}.model", each.model, kinds, "a model", "One of [[models]]", TRAININGS)
        if kinds.get(each.model) in READ:
            came = f'"{each.model}" is of kind {kinds[each.model]}, which is not fitted here.'
            yield Fault(f"{where}.model", came, "A model that midstream train fits.", TRAININGS)
        if each.warm_start and kinds.get(each.model, WARM_KINDS[0]) not in WARM_KINDS:
            came = f"true came, and {each.model} is of kind {kinds[each.model]}."
            yield Fault(
                f"{where}.warm_start", came, f"false; {' and '.join(WARM_KINDS)} go on from a version.", TRAININGS
            )
        if each.whole_every and not each.warm_start:
            came = f"{each.whole_every} came, and warm_start is false: every fit is whole."
            yield Fault(f"{where}.whole_every", came, 'warm_start = true, or "".', TRAININGS)
        yield from _times(each, where)
        if each.calibration and kinds.get(each.model, "") not in ROW_KINDS:
            came = f"true came, and {each.model} is of kind {kinds.get(each.model)}, which predicts no acts."
            yield Fault(f"{where}.calibration", came, f"false; a ranker: {', '.join(ROW_KINDS)}.", TRAININGS)
        is_served = any(one.name == each.model and one.examples == "served" for one in config.models)
        if each.calibration and kinds.get(each.model, "") in ROW_KINDS and is_served and window.ms > AWAITED_MS_MAX:
            came = f"true came, and {each.model} learns by slates that are older than {window}: the alarm is over then."
            right = 'false; [feedback] window = "1d" at most; or examples = "replay".'
            yield Fault(f"{where}.calibration", came, right, TRAININGS)
        if not (each.every or each.events or each.drift or each.calibration):
            came = "Neither every nor events nor drift nor calibration came."
            yield Fault(f"{where}.every", came, 'One of them at least, such as every = "6h".', TRAININGS)
        if 0 < each.events < EVENTS_MIN:
            yield Fault(f"{where}.events", f"{each.events} came.", f"{EVENTS_MIN:,} and more, or 0.", TRAININGS)
        if each.drift and not config.monitoring.baseline:
            came = "true came, and [monitoring] baseline is empty."
            yield Fault(f"{where}.drift", came, "A baseline that features are compared with.", TRAININGS)
        if each.canary.placement:
            names, right = [one.name for one in config.placements], "A canary answers one of"
            at = f"{where}.canary.placement"
            yield from known(at, each.canary.placement, names, "a placement", right, TRAININGS)
            pinning = [one.models.get(each.model) for one in config.placements if one.name == each.canary.placement]
            if pinning and pinning[0]:
                came = (
                    f"{each.canary.placement} pins version {pinning[0]} of {each.model}, so no champion answers there."
                )
                yield Fault(at, came, "A placement that reads the champion.", TRAININGS)


def _times(told: TrainingTable, where: str) -> Iterator[Fault]:
    """Yield the faults of lengths of time."""
    least: int | None = None
    for name, text in (
        ("every", told.every),
        ("whole_every", told.whole_every),
        ("rest", told.rest),
        ("watch", told.watch),
    ):
        if not text and name != "rest":
            continue
        ms = yield from duration_ms(f"{where}.{name}", text, _EVERY, TRAININGS)
        if ms is not None and not EVERY_MS_MIN <= ms <= EVERY_MS_MAX:
            yield Fault(f"{where}.{name}", f"{text} came.", _EVERY, TRAININGS)
    for name, text in (("at_least", told.canary.at_least), ("at_most", told.canary.at_most)):
        ms = yield from duration_ms(f"{where}.canary.{name}", text, _EVERY, TRAININGS)
        if ms is not None and not EVERY_MS_MIN <= ms <= EVERY_MS_MAX:
            yield Fault(f"{where}.canary.{name}", f"{text} came.", _EVERY, TRAININGS)
        if name == "at_least":
            least = ms
        elif ms is not None and least is not None and ms < least:
            came = f"{text} came, and at_least is {told.canary.at_least}."
            yield Fault(f"{where}.canary.at_most", came, "A time that is not shorter.", TRAININGS)


ENCODED_NUMBER_BYTES = 10
"""Text of a number of an encoder's vector, with a comma: 10.5 on average for 384 numbers of six digits."""
OTHER_BYTES = 1_000
"""Of an item's document beside its vectors: text and overhead."""


def encoder_faults(config: Config) -> Iterator[Fault]:
    """Yield the faults of text encoders: their names, and that attribute and encoder have vectors of one length."""
    places = [(f"$.encoders[{number}]", each) for number, each in enumerate(config.encoders)]
    yield from distinct(((f"{place}.attribute", each.attribute) for place, each in places), page=PAGE)
    lengths = {name: vector_length(kind) for name, kind in config.items.attributes.items() if vector_length(kind)}
    for place, each in places:
        what = "a declared vector attribute"
        yield from known(f"{place}.attribute", each.attribute, lengths, what, "Vector attributes", PAGE)
        yield from known(f"{place}.model", each.model, SPECS, "a text encoder", "Encoders", PAGE)
        if each.attribute in each.texts:
            yield Fault(f"{place}.texts", f'"{each.attribute}" is what is made.', "Texts of the item.", PAGE)
        width = SPECS[each.model].width if each.model in SPECS else 0
        if width and width != lengths.get(each.attribute, width):
            came = f"{each.model} makes {width} numbers, {each.attribute} has {lengths[each.attribute]}."
            right = f'{each.attribute} = "vector:{width}" in [items.attributes].'
            yield Fault(f"{place}.attribute", came, right, PAGE)
    yield from _room_for_vectors(config)


def _room_for_vectors(config: Config) -> Iterator[Fault]:
    """Yield the fault of a catalogue whose documents have no room for the vectors of all of its items."""
    numbers = sum(SPECS[each.model].width for each in config.encoders if each.model in SPECS)
    vectors = config.limits.items_max * numbers * ENCODED_NUMBER_BYTES
    if vectors > config.limits.document_bytes_max:
        items = config.limits.items_max
        came = (
            f"{config.limits.document_bytes_max:,} bytes; the vectors of {items:,} items (items_max), "
            f"{numbers:,} numbers each, take {vectors:,}."
        )
        right = f"About {vectors + items * OTHER_BYTES:,}, or an items_max that the vectors have room for."
        yield Fault("$.limits.document_bytes_max", came, right, PAGE)
