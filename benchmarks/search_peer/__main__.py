"""Ranks by bm25s, a library for BM25, in an environment of its own: from standard input to standard output, as JSON.

The words of a query count as they are: the library has no beginnings of words. Parameters are those of the engine's
index (k 1.2, b 0.75), and its variant is Lucene's, which has the same idf but for the base of the logarithm. Equal
scores come in the order of a hash of the id, since the order of a catalogue, such as that of first sales, says what
sells.
"""

import json
import sys
from hashlib import blake2b

import bm25s
import numpy as np


def main() -> None:
    """Rank the wanted document of each query."""
    told = json.load(sys.stdin)
    ids = [item for item, _ in told["documents"]]
    places = {item: place for place, item in enumerate(ids)}
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    index.index([text.split() for _, text in told["documents"]], show_progress=False)
    chance = [blake2b(item.encode(), digest_size=8).digest() for item in ids]
    tie = np.array(sorted(range(len(ids)), key=chance.__getitem__)).argsort()
    ranks = []
    for query, wanted in zip(told["queries"], told["wanted"], strict=True):
        words = [word for word in query.split() if word in index.vocab_dict]
        scores = index.get_scores(words) if words else np.zeros(len(ids))
        place = places[wanted]
        order = np.lexsort((tie, -scores))
        ranks.append(int(np.flatnonzero(order == place)[0]) if scores[place] > 0 else -1)
    json.dump(ranks, sys.stdout)


if __name__ == "__main__":
    main()
