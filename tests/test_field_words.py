"""Words of the field: each leads to its room, by the name of a file or by a row of the glossary.

A newcomer searches with ``git ls-files | grep -i WORD`` first. A word that is in no file name is in the last table of
``docs/glossary.md``, with a link.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "midstream"
GLOSSARY = ROOT / "docs" / "glossary.md"
IN_NAMES = {
    "admission": "serving",
    "als": "models",
    "available": "ranking",
    "backup": "app",
    "blend": "ranking",
    "calibration": "models",
    "candidate": "ranking",
    "catalogue": "serving",
    "circuit breaker": "engine",
    "conformance": "testing",
    "co-visitation": "retrieval",
    "cursor": "engine",
    "dead letter": "events",
    "decay": "state",
    "dedup": "engine",
    "diversity": "ranking",
    "drift": "evaluation",
    "epsilon greedy": "ranking",
    "erasure": "engine",
    "explanation": "ranking",
    "filters": "ranking",
    "fold scheduler": "engine",
    "follower": "serving",
    "gradient boosting": "models",
    "health": "engine",
    "item knn": "models",
    "leader": "app",
    "metrics": "monitoring",
    "objectives": "ranking",
    "openapi": "serving",
    "parity": "features",
    "pin": "ranking",
    "placements": "engine",
    "point in time": "app",
    "rebuild": "engine",
    "redaction": "engine",
    "registry": "training",
    "replication": "engine",
    "retention": "engine",
    "sasrec": "models",
    "schema": "events",
    "scorers": "ranking",
    "segments": "events",
    "selectors": "ranking",
    "served buffer": "engine",
    "session knn": "retrieval",
    "shap": "models",
    "snapshot": "engine",
    "thompson": "ranking",
    "top k": "models",
    "trending": "retrieval",
    "two tower": "models",
    "vocabulary": "state",
    "warm start": "app",
    "window": "state",
}
"""Word to the folder of ``src/midstream`` in which a file or folder has it in its name."""
IN_GLOSSARY = (
    *("attribution", "backfill", "backpressure", "bandit", "candidate generation", "checkpoint", "cold start"),
    *("collaborative filtering", "embedding", "eviction", "exploration", "fallback", "feature store", "GDPR"),
    *(
        "hot reload",
        "hyperparameter",
        "idempotency",
        "learning to rank",
        "load shedding",
        "matrix factorization",
        "MMR",
    ),
    *("online store", "pagination", "propensity", "rate limit", "re-rank", "read your writes", "write-ahead log"),
)
_LINK = re.compile(r"\]\(\.\./(src/midstream/[^)#]+)\)")


def paths_with(word: str, folder: str) -> list[str]:
    """Return the files below a folder whose path has a word, however it is joined."""
    pattern = re.compile("[ _-]?".join(map(re.escape, re.split("[ -]", word))), re.IGNORECASE)
    paths = (path.relative_to(SOURCES).as_posix() for path in (SOURCES / folder).rglob("*.py"))
    return [path for path in paths if pattern.search(path)]


def rooms_of(word: str) -> list[str]:
    """Return the links to sources in the rows of the last table of the glossary that begin with a word."""
    table = GLOSSARY.read_text("utf-8").split("\n## Where it is in the sources\n")[1]
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| ")]
    pattern = re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)
    return [link for _, words, rooms, _ in rows if pattern.search(words) for link in _LINK.findall(rooms)]


@pytest.mark.parametrize("word,folder", IN_NAMES.items())
def test_word_is_in_the_name_of_its_room(word, folder):
    """A search of file names finds it, in the folder in which a reader expects it."""
    assert paths_with(word, folder)


@pytest.mark.parametrize("word", IN_GLOSSARY)
def test_word_is_in_the_glossary_with_its_room(word):
    """The row has a link to a file or folder of the sources, which is there."""
    rooms = rooms_of(word)
    assert rooms
    assert [room for room in rooms if not (ROOT / room).exists()] == []


def test_a_word_without_a_room_is_noticed():
    """Neither search finds everything."""
    assert paths_with("blockchain", "engine") == []
    assert rooms_of("blockchain") == []
