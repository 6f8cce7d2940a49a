"""Full-text search: the place of an item that is looked for by words of its own name, with and without the visitor.

Queries are made of a data set: before each act, words of the name of the item that comes next are drawn. The state is
that of this moment, as in ``replay``, so the session so far and the heat of items can order equal matches. Plain BM25
answers the same queries, and so can another library, which ranks the names alone.

Queries of this kind favour no method by their words, but they say nothing of words that a name does not have, of
misspellings or of what a person would have typed.
"""

import asyncio
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from benchmarks.quality.reranking import DOCUMENT_BYTES, drawn_questions
from benchmarks.quality.shops import ShopData
from midstream.core.types import LogPosition, Moment
from midstream.evaluation.data.importing import DATA_SETTINGS, fitted, room_for
from midstream.evaluation.data.interactions import Rows
from midstream.evaluation.metrics.metrics import Ranks, discounted_gain, hit, reciprocal_rank
from midstream.evaluation.metrics.statistics import Estimate, PairedDifference, Resampling, difference, estimate, holm
from midstream.evaluation.replay import ReplayOptions, replay_ranks, rows_asked
from midstream.retrieval.text_search import TextSearch
from midstream.state.fold import Fold
from midstream.state.search.text_index import words_of

TEXT = "q"
BEGINNING_LETTERS = 3
BEGINNING = "a word and a beginning"
"""Form of queries that the other library does not have."""
PEER_S_MAX = 600
PLAIN = "BM25"
METHODS: Mapping[str, TextSearch] = {
    PLAIN: TextSearch(limit=500, personal=0.0, popularity=0.0),
    "with popularity 0.1": TextSearch(limit=500, personal=0.0, popularity=0.1),
    "with personal 0.2": TextSearch(limit=500, personal=0.2, popularity=0.0),
    "text_search, the default": TextSearch(limit=500),
    "with personal 0.4": TextSearch(limit=500, personal=0.4, popularity=0.1),
}


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How much is asked, and how answers are judged."""

    k: int = 20
    asked_from: float = 1 / 3
    """Share of the acts at which questions begin."""
    asked_max: int = 4_000
    seed: int = 0
    """Decides which sessions are drawn, and which words."""
    resampling: Resampling = field(default_factory=lambda: Resampling(resamples=1_000))
    peer: Path | None = None
    """Interpreter of an environment that has the other library."""
    advance: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class SearchedBy:
    """What one method reached with one form of queries."""

    name: str
    mrr: Estimate
    ndcg: Estimate
    hit_rate: Estimate
    less_plain: PairedDifference
    """MRR of this method less that of plain BM25, query by query."""


@dataclass(frozen=True, slots=True)
class SearchReport:
    """Search on one data set."""

    data: str
    k: int
    items: int
    queries: int
    sessions: int
    forms: Mapping[str, tuple[SearchedBy, ...]]
    """By form of the queries."""


@dataclass(slots=True, eq=False)
class _Searching:
    """Takes ranks of the wanted item as each question is put."""

    texts: Mapping[str, Mapping[int, str]]
    """Of each form, by row of the data set."""
    ranks: dict[tuple[str, str], list[int]] = field(default_factory=dict[tuple[str, str], list[int]])
    row: list[int] = field(default_factory=list[int])

    def add(self, moment: Moment, row: int, wanted: int, _last: int) -> None:
        """Ask every method with each form of the query."""
        self.row.append(row)
        for form, texts in self.texts.items():
            asked = replace(moment, query=replace(moment.query, context={TEXT: texts[row]}))
            for name, source in METHODS.items():
                found = np.flatnonzero(source.retrieve(asked).item_index == wanted)
                self.ranks.setdefault((form, name), []).append(int(found[0]) if len(found) else -1)


def judge_search(shop: ShopData, attribute: str, options: SearchOptions) -> SearchReport:
    """Return where the wanted items stand, by form of the query and by method.

    Args:
        shop: Acts and catalogue.
        attribute: List of words of each item, of which queries are made.
        options: How much.

    Cost: some 15 ms a question.
    """
    words = {
        item: tuple(map(str, cast("Sequence[object]", found[attribute]))) for item, found in shop.catalogue.items()
    }
    rows = _questions(shop, words, options)
    texts = _texts([words[each] for each in shop.rows.item_id[rows].tolist()], rows, options.seed)
    fold = _state(shop, attribute)
    searching = _Searching(texts)
    told = ReplayOptions(k=options.k, first=len(shop.opening()), advance=options.advance, observe=searching.add)
    asyncio.run(replay_ranks(shop.rows, rows, {}, fold, told))
    order = np.array(searching.row, dtype=np.intp)
    ranks = {key: np.array(found, dtype=np.int32) for key, found in searching.ranks.items()}
    if options.peer is not None:
        documents = {item: " ".join(words_of(" ".join(found))) for item, found in words.items()}
        for form, found in texts.items():
            if form == BEGINNING:
                continue
            asked = [found[row] for row in order.tolist()]
            ranks[form, "bm25s"] = _ranks_of_peer(options.peer, documents, asked, shop.rows.item_id[order].tolist())
    session = np.unique(shop.rows.session_id[order], return_inverse=True)[1]
    forms = {form: _judged(form, ranks, session, options) for form in texts}
    return SearchReport(shop.name, options.k, len(words), len(order), int(session.max(initial=-1)) + 1, forms)


def _questions(shop: ShopData, words: Mapping[str, Sequence[str]], options: SearchOptions) -> Rows:
    """Return the rows whose item is looked for: it has two words at least."""
    asked = rows_asked(shop.rows, int(options.asked_from * len(shop.rows)))
    is_named = np.array([len(words.get(each, ())) > 1 for each in shop.rows.item_id[asked].tolist()], dtype=np.bool_)
    return drawn_questions(shop, asked[is_named], options.asked_max, options.seed)


def _texts(words: Sequence[Sequence[str]], rows: Rows, seed: int) -> dict[str, dict[int, str]]:
    """Return the queries of each form by row: words in the order of the name.

    A space behind a last word says that it is whole.
    """
    rng = np.random.default_rng(seed)
    forms: dict[str, dict[int, str]] = {"one word": {}, "two words": {}, BEGINNING: {}}
    for row, own in zip(rows.tolist(), words, strict=True):
        first, second = sorted(rng.choice(len(own), 2, replace=False).tolist())
        forms["one word"][row] = f"{own[int(rng.choice([first, second]))]} "
        forms["two words"][row] = f"{own[first]} {own[second]} "
        forms[BEGINNING][row] = f"{own[first]} {own[second][:BEGINNING_LETTERS]}"
    return forms


def _state(shop: ShopData, attribute: str) -> Fold:
    """Return a state with the catalogue, whose words can be searched."""
    settings = fitted(DATA_SETTINGS, room_for(shop.rows))
    room = max(settings.limits.document_bytes_max, DOCUMENT_BYTES * max(1, len(shop.catalogue)))
    limits = msgspec.structs.replace(settings.limits, document_bytes_max=room)
    fold = Fold(msgspec.structs.replace(settings, limits=limits, search=(attribute,)))
    fold.apply(LogPosition(0), shop.opening())
    return fold


def _ranks_of_peer(peer: Path, documents: Mapping[str, str], queries: Sequence[str], wanted: Sequence[str]) -> Ranks:
    """Return the ranks that another library gives, in an interpreter of its own; -1 = it does not match."""
    plain = [" ".join(words_of(query)) for query in queries]
    told = {"documents": list(documents.items()), "queries": plain, "wanted": wanted}
    program = Path(__file__).parents[1] / "search_peer"
    done = subprocess.run(
        [peer, program], input=json.dumps(told), capture_output=True, text=True, timeout=PEER_S_MAX, check=True
    )
    return np.array(json.loads(done.stdout), dtype=np.int32)


def _judged(
    form: str, ranks: Mapping[tuple[str, str], Ranks], session: Rows, options: SearchOptions
) -> tuple[SearchedBy, ...]:
    k, drawn = options.k, options.resampling
    own = {name: found for (of, name), found in ranks.items() if of == form}
    plain = reciprocal_rank(own[PLAIN], k)
    tests = {name: difference(reciprocal_rank(rank, k), plain, session, drawn) for name, rank in own.items()}
    others = [name for name in own if name != PLAIN]
    tests |= dict(zip(others, holm([tests[name] for name in others]), strict=True))
    return tuple(
        SearchedBy(
            name,
            estimate(reciprocal_rank(rank, k), session, drawn),
            estimate(discounted_gain(rank, k), session, drawn),
            estimate(hit(rank, k), session, drawn),
            tests[name],
        )
        for name, rank in own.items()
    )
