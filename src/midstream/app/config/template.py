"""The file that ``midstream init`` writes: every setting with its default and what it means.

Values are taken from the default ``Config``, so a default stands in one place; only the words stand here. A test
holds that the text reads back as the default, and that it states every setting.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from midstream.app.config.reader import Told, is_list, is_table
from midstream.app.config.schema import Config

HEAD = """\
# midstream: the configuration. Every setting is here with its default; a line that is left out means the same.
# A length of time is a whole number and one of ms, s, m, h, d. docs/configuration.md explains each part.
"""
GROUPED_FROM = 10_000
"""Numbers from here on are written in groups of three digits."""
REASONS = """\
Why an item is in a slate, for those who see it, by language and kind of source; there are texts in en and de
(docs/explanations.md). Such as:
[reasons.en]
covisitation = "because you viewed {evidence.title}\""""
SECTIONS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "events.types": (
        """Interactions that events may have as their type, and what one is worth to trending and popular. A weight
below 0 is an act against the item. Change of a type or weight rebuilds the state from the log.""",
        {},
    ),
    "items": (
        "The catalogue.",
        {
            "unknown_items": "An interaction with an id that no item event named: accept (the item may be served),\n"
            "hold (it counts, and is not served before the catalogue has it) or reject.",
        },
    ),
    "items.attributes": (
        """Attributes that filters and features may read: "number", "category" (one text), "tags" (several), "boolean",
and for features alone "vector:8" (a list of eight numbers), such as price = "number". `available` is always there: an
item with available = false is not served.""",
        {},
    ),
    "sessions": (
        "Events without a session_id belong to a session of their user until there is silence for:",
        {"gap": ""},
    ),
    "pairs": (
        "Items that are acted on in the same sessions, which covisitation and similar items come from.",
        {"half_life": "What one session says about two items counts half as much after this."},
    ),
    "trending": (
        "Heat: of which half-lives lists are kept beside 6h, 7d and those in use, and of which segments.",
        {
            "half_life": 'For placements that are set while it runs, such as ["1h"]. A change rebuilds the state.',
            "segment": "The one attribute that makes segments, of a profile or of an act's context, such as\n"
            '"user.country" or "context.device"; "" = none, for sources with by_segment = true. A change rebuilds the\n'
            "state from the log.",
        },
    ),
    "feedback": (
        "What follows a slate is joined to it by its request id (docs/feedback.md).",
        {
            "window": "Log time for which it is. A change rebuilds the state from the log.",
            "reward": "What an example is worth by what came of it, such as { click = 1.0, purchase = 5.0 }; actions\n"
            "that are not named are worth nothing. {} = the weights of the types.",
        },
    ),
    "users": (
        "People.",
        {"erase_days_max": "Days after which every file is to be without a user that was erased."},
    ),
    "limits": (
        "Maxima, from which memory follows: `midstream size` prints the bytes of each.",
        {
            "users_max": "Users with a row; then the one seen longest ago starts cold.",
            "items_max": "Items, those known only from interactions included.",
            "click_items_max": "Items known only from interactions, so that made-up ids cannot fill the catalogue.",
            "sessions_max": "Open sessions.",
            "session_items_max": "Items kept of an open session, the newest ones.",
            "index_sessions_max": "Newest sessions that session_knn looks for neighbours in.",
            "index_items_max": "Distinct items of a session that session_knn sees, the first ones; 255 at most.",
            "index_entries_max": "Newest sessions kept for each item: the largest m of session_knn.",
            "user_ring_max": "Last interactions kept of each user, and items with counted impressions.",
            "event_ids_max": "Event ids remembered to tell duplicates, for 24 h at most.",
            "requests_max": "Newest answers that can be looked up by request id.",
            "outcome_slates_max": "Newest slates to which what follows is joined, and of which it is known to whom.",
            "outcome_items_max": "Positions of these slates.",
            "outcomes_waiting_max": "Impressions and acts that wait for the slate they name.",
            "hot_items_max": "Length of each list of the hottest items: the largest limit of popular and trending.",
            "new_items_max": "Newest items of the catalogue, which recent_items knows.",
            "pair_neighbours_max": "Items kept beside each item that were acted on in the same sessions; 255 at most.",
            "pair_items_max": "Last items of a session that an act makes pairs with; 50 at most.",
            "segment_values_max": "Values of the attribute that makes segments; later ones are unknown.",
            "attribute_values_max": "Distinct values of each category or tags attribute; later ones are unknown.",
            "item_tags_max": "Tags kept of one item.",
            "document_bytes_max": "Bytes of the attributes of all items as text, and again of all users.",
            "feature_user_items_max": "Pairs of a user and an item that features count; then the longest unseen goes.",
            "feature_user_values_max": "The same of a user and a value, for each attribute that features count by.",
            "aliases_max": "User ids that were merged into others; then the first made is a user of its own again.",
            "erased_max": "Erased user ids that may wait for the log to be rewritten, half of them unknown ones.",
        },
    ),
    "log": (
        "The event log.",
        {"segment_bytes_max": "Size from which a segment file is sealed and the next one begun."},
    ),
    "history": (
        "Old segments become Parquet files, a day of log time each, beside the log.",
        {
            "hot": "Log time of which the segments stay.",
            "keep": 'Log time of which events are kept at all, such as "365d"; "" = all. The catalogue, profiles\n'
            "and what the state has counted stay.",
        },
    ),
    "snapshots": (
        "Snapshots of the state make a start fast; without any it is folded from the log.",
        {
            "interval": "Time between two.",
            "keep": "Newest ones kept, 2 at least.",
            "mode": "while_serving (a child process needs the state's memory once more), at_stop or off.",
            "explain_days": "Days for which one an hour stays, so that requests are explained in seconds\n"
            "(docs/explanations.md); 0 = none.",
            "explain_bytes_max": "Bytes of those on disk; where they are more one in two hours stays, then in four.",
        },
    ),
    "server": (
        "HTTP.",
        {
            "host": "Address to listen on. Anything but loopback needs insecure = true while no key is asked for.",
            "port": "0 = any free port.",
            "followers": "Further processes that answer, each with a state of its own in memory; 0 = one process.",
            "insecure": "Listen on more than loopback, because something in front keeps strangers out.",
            "privileged": "Listen on a port below 1,024, such as 80.",
            "allow_hosts": "Further names under which it may be asked, such as that of a proxy in front of it.",
            "allow_origins": "Origins of pages that may ask, such as https://shop.example (docs/http.md).",
            "body_bytes_max": "Largest body of a request.",
            "body_wait_max": "Longest wait for a body.",
            "head_wait_max": "Longest wait for a connection's first request's headers.",
            "head_bytes_max": "Largest request line with headers.",
            "commit_wait_max": "Longest wait for events to be durable.",
            "connections_max": "Open connections.",
            "connections_per_client_max": "Of those, from one address; 0 = nine tenths.",
            "connections_reserved": "Of those, for health and metrics when there is no other place.",
            "answers_max": "Answers being made at once; more than one are where they wait for something.",
            "answers_waiting_max": "Questions that wait for a place among those; further ones are told to come again.",
            "answer_wait_max": "A question that waited so long is told so while more come than can be answered.",
            "quota_per_second": "Requests a second that one caller may send; 0 = no quota.",
            "quota_burst": "Requests at once that one caller may send; 0 = those of a second.",
            "quota_header": "Header that tells callers apart, from what stands in front; empty = their address.",
            "quota_callers_max": "Callers that are remembered.",
            "bulk_decodes_max": "Large bodies waiting to be decoded.",
            "bulk_streams_max": "Streams (POST /v1/events/bulk) that are read at once.",
            "bulk_bytes_max": "Largest stream, as it is once unpacked.",
            "bulk_message_bytes_max": "Largest message (a record batch) of an Arrow stream, unpacked.",
            "bulk_wait_max": "Longest wait for the whole of a stream; body_wait_max is that for its next bytes.",
            "keep_alive": "An idle connection is closed after this.",
            "stop_wait_max": "Time for requests in flight when the server stops.",
            "log_level": "Least level of what is logged to standard error: debug, info, warning, error.\n"
            "At debug lines may hold ids and texts of users (docs/logs.md).",
            "log_format": "text, json, or auto: text on a terminal and JSON lines elsewhere.",
        },
    ),
    "registry": (
        "Versions of models (docs/models.md).",
        {
            "version_bytes_max": "Bytes of one; three of a model are in memory while it is promoted.",
            "versions_kept": "The newest of each model that stay, beside those that an alias stands or stood for.",
        },
    ),
    "monitoring": (
        "What is watched while it runs.",
        {
            "baseline": "Statistics of a training set, such as examples.parquet.statistics.json: metrics then say how\n"
            'far the features of what is served have drifted from them; "" = none.'
        },
    ),
    "reasons": (REASONS, {}),
    "components": (
        """Types of your own in Python files beside this one, by name (docs/sources.md). Placements that are set over
HTTP may use these and what the placements here name; nothing else is imported. Such as shelf = "components:Shelf",
then { kind = "custom", name = "shelf" }.""",
        {},
    ),
    "placements": (
        "One table for each place where recommendations are shown.",
        {
            "name": "What a request asks for.",
            "weights": "What a place in a source's list is worth. Unless given: session_knn 1.0, covisitation 0.6,\n"
            "trending 0.05, recent_items 0.05, popular 0.04, editorial 0.04, any other 1.0.",
            "rank_offset": "Added to each place; the smaller, the more the first places of a list count.",
            "filter": "Which items may be served (docs/language.md), such as:\n"
            'filter = "item.available and item.price <= context.budget"',
            "timezone": 'Of now.hour and now.weekday in its texts, such as "Europe/Berlin".',
            "filters": "More filters, each counted by its name: expression, acted, served_lately, repeats, custom:\n"
            '[{ kind = "expression", name = "in_stock", where = "item.stock > 0" }]',
            "exclude": 'Not what the user has acted on already: { purchase = "30d", impression = 5 }: bought in the\n'
            'last 30 days, seen 5 times or more. Nor what was served: { served = "24h", served_anywhere = 3 }.',
            "repeats": "Items of the asking session: not_last (all but the last one and a basket's), none or any.",
            "features": 'Features that its scorers read, by name: ["item_purchase_rate"].',
            "log_features": "Share of requests whose features are kept with what was served, such as 0.01.",
            "editorial": "Items that the shop puts forward, the most wanted first.",
            "candidates_max": "Of what the filters left, the best so many by the blend are scored; 100 to 500.",
            "scorers": 'What gives numbers, best first: models, such as [{ kind = "model", name = "ranker" }], sums\n'
            "of several and scorers of one's own; behind them always the blend of the sources (docs/models.md).",
            "selector": "What chooses and orders: top_k, plackett_luce, epsilon_greedy, thompson (docs/selectors.md)\n"
            "or custom.",
            "caps": 'At most so many items of one value in a slate: [{ attribute = "category", max = 3 }]; with\n'
            'within = "24h" in all that the placement served to the same user or session in that time.',
            "diversity": "Likeness to the items above counts against a score, such as:\n"
            'diversity = { attribute = "category", weight = 0.3 }',
            "rules": "Pins, boosts, promotions and positions for new items, each with its time (docs/rules.md):\n"
            'rules = [{ kind = "boost", name = "sale", where = "item.on_sale", factor = 2.0 }]',
            "slate_size": "Items of an answer when the request does not say.",
            "slate_size_max": "The most that a request may ask for.",
            "deadline": "Time for an answer; parts that would be late are left out and named.",
        },
    ),
}


FEATURES = """\
# What scorers can know of items, users, sessions and pairs of them, counted as events come in: a table each
# (docs/features.md). A change of what is counted rebuilds the state from the log. Such as:
# [[features]]
# name = "item_purchase_rate"
# kind = "rate"
# scope = "item"
# actions = ["purchase"]
# per = ["impression"]
# half_life = "7d"
"""
TABLES = """\
# Files that somebody else writes, Parquet or CSV with id, time and numbers, which features of the kind "external" read:
# of each item or user the newest row before the question. Such as:
# [[tables]]
# name = "quality"
# path = "quality.parquet"
"""
MODELS = """\
# What is fitted on the log by `midstream train NAME` and answers once a version is promoted (docs/models.md). Such as:
# [[models]]
# name = "taste"
# kind = "als"
# last = "90d"
"""
SOURCES = """What proposes items for it (docs/sources.md): session_knn, covisitation, similar, trending, popular,
recent_items, repeat, editorial, als, ease, graph, sequence, content, two_tower, hybrid, custom."""
COMMON_WORDS: Mapping[str, str] = {
    "name": "Stands in answers, metrics and weights.",
    "limit": "Items proposed at most.",
    "half_life": "An act counts half as much after this. Each half-life in use keeps a list of its own.",
}
SOURCE_WORDS: Mapping[str, Mapping[str, str]] = {
    "session_knn": {
        "kind": "What sessions like the asking one went on to.",
        "last_items_max": "Last distinct items of the session that are looked up.",
        "entries_max": "Newest sessions looked at for each of them.",
        "neighbours_max": "Most similar sessions, whose items are proposed; it decides the cost.",
        "position_decay": "How fast an item of the session loses weight with each later one, in the similarity.",
        "match_decay": "How fast a neighbour loses weight with each item since the latest shared one.",
        "distance_decay": "How fast an item of a neighbour loses weight with each place from the shared one.",
        "same_item": "Weight of the shared item itself: about 3 where visitors often come back to an item.",
        "sharpness": 'Power of the similarity: "1", "1.5" or "2".',
        "allow_session_items": "Whether items of the session may be proposed; `repeats` says what may be served.",
        "exclude_last_item": "Whether the last one is left out all the same.",
        "history_items_max": "Last items of the user that stand in for a session that has none yet; 0 = none.",
    },
    "covisitation": {
        "kind": "What is acted on in the same sessions as the items of this one.",
        "last_items_max": "Last distinct items of the session that are looked up.",
        "position_decay": "How fast an item of the session loses weight with each later one.",
        "same_item": "Weight of an item of the session for itself, its neighbours together being 1.",
        "popularity": 'Power of its own share that a neighbour is divided by: "0", "0.25", "0.5", "0.75" or "1".',
        "allow_session_items": "Whether items of the session may be proposed; `repeats` says what may be served.",
        "exclude_last_item": "Whether the last one is left out all the same.",
        "history_items_max": "Last items of the user that stand in for a session that has none yet; 0 = none.",
    },
    "trending": {
        "kind": "What most people act on now.",
        "by_segment": "Whether the segment of who asks decides, mixed with the whole shop.",
        "segment_prior": "Heat that the whole shop counts for in a segment.",
    },
    "popular": {
        "kind": "What most people act on over a longer time; the last resort, so it runs in every request.",
    },
}


def template() -> str:
    """Return the commented file."""
    default: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(Config(), enc_hook=str))
    sources = default["placements"][0].pop("sources")
    *tables, placements = _tables(default)
    return "\n".join((HEAD, *tables, FEATURES, TABLES, MODELS, placements, *_sources(sources)))


def _tables(default: Mapping[str, Any]) -> Iterator[str]:
    """Yield the text of each table but the sources."""
    for path, (meaning, words) in SECTIONS.items():
        value: Any = default
        for part in path.split("."):
            value = value[part]
        if is_list(value):
            yield _table(meaning, f"[[{path}]]", value[0], words)
        else:
            own = {key: each for key, each in value.items() if f"{path}.{key}" not in SECTIONS}
            yield _table(meaning, f"[{path}]", own, words)


def _sources(sources: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table for each source, its kind first."""
    for number, source in enumerate(sources):
        named = {"kind": source["kind"], "name": source["name"], **source}
        words = {**COMMON_WORDS, **SOURCE_WORDS[source["kind"]]}
        yield _table("" if number else SOURCES, "[[placements.sources]]", named, words)


def _table(meaning: str, header: str, table: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Return a table with what it and each of its settings means; one without a default stands in its comment."""
    lines = [*_comment(meaning), header]
    for key, value in table.items():
        lines.extend(_comment(words.get(key, "")))
        if value is not None:
            lines.append(f"{key} = {_toml(value)}")
    return "\n".join((*lines, ""))


def _comment(text: str) -> Iterator[str]:
    """Yield a text as comment lines."""
    yield from (f"# {line}" for line in text.splitlines())


def _toml(value: Told) -> str:
    """Return a value as TOML in one line."""
    if is_list(value):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if is_table(value):
        inside = ", ".join(f"{key} = {_toml(each)}" for key, each in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, int) and not isinstance(value, bool) and value >= GROUPED_FROM:
        return f"{value:_}"
    # Texts, numbers and truths look the same in both.
    return msgspec.json.encode(value).decode()
