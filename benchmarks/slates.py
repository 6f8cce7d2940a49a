"""Random slates under random rules against a checker in plain Python, and what rules cost a request.

python benchmarks/slates.py --count 100000 [--first 0]
python benchmarks/slates.py --cost
"""

import argparse
import sys
import time
from collections import Counter

import numpy as np

from midstream.core.types import FeatureFrame, Query, TimestampMs
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.boost import Boosted
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.new_items import Fresh
from midstream.ranking.rules.promote import Promoted
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.top_k import TopK
from tests.support.slate_rules import broken
from tests.support.slates import random_shape, slate_of

CANDIDATES, PLACES, ROUNDS = 500, 20, 500


def check(first: int, count: int) -> int:
    """Answer so many random slates; print what is broken and what rules did; return how many slates are broken."""
    bad, did, places, began = 0, Counter[str](), 0, time.perf_counter()
    for seed in range(first, first + count):
        answered = slate_of(random_shape(seed))
        did.update(each.what for each in answered.served.traces)
        places += len(answered.served.selection.chosen)
        if faults := broken(answered):
            bad += 1
            print(answered.shape, *faults, sep="\n  ")
        if (seed - first + 1) % 5_000 == 0:
            print(f"{seed - first + 1} slates, {bad} broken", flush=True)
    print(f"{count} slates, {places} places, {bad} broken, {time.perf_counter() - began:.0f} s")
    print(", ".join(f"{what} {number}" for what, number in did.most_common()))
    return bad


def cost() -> None:
    """Print what choosing takes with each rule: µs of the processor, of which a twentieth of the rounds takes less."""
    dice = np.random.default_rng(7)
    rows = np.arange(CANDIDATES, dtype=np.int32)
    codes = dice.integers(0, 12, (CANDIDATES, 1)).astype(np.int32)
    tags = np.sort(dice.integers(-1, 30, (CANDIDATES, 4)).astype(np.int32), axis=1)[:, ::-1].copy()
    vectors = dice.standard_normal((CANDIDATES, 64)).astype(np.float32)
    vectors /= np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    some = [dice.random(CANDIDATES) < share for share in (0.1, 0.2, 0.05)]
    pins = {0: (400, "p"), 7: (401, "p")}
    boosts = (Boosted("b", 2.0, some[1]),)
    promotions = (Promoted("s", 0.2, 0.5, some[0]),)
    fresh = (Fresh("n", frozenset((4, 9)), some[2]),)
    cap, mmr = (Cap(attribute="a", max=3),), Diversity(attribute="b")
    dpp = Diversity(attribute="b", method="dpp")
    cases = {
        "no rules": (Arrangement(), CandidateFacts(rows)),
        "caps": (Arrangement(cap), CandidateFacts(rows, (codes,))),
        "pins": (Arrangement(), CandidateFacts(rows, pins=pins)),
        "boosts": (Arrangement(), CandidateFacts(rows, boosts=boosts)),
        "promotion": (Arrangement(), CandidateFacts(rows, promotions=promotions)),
        "new items": (Arrangement(), CandidateFacts(rows, fresh=fresh)),
        "mmr, category": (Arrangement((), mmr), CandidateFacts(rows, (), codes)),
        "cap and mmr, category": (Arrangement(cap, mmr), CandidateFacts(rows, (codes,), codes)),
        "mmr, tags": (Arrangement((), mmr), CandidateFacts(rows, (), tags)),
        "mmr, vectors of 64": (Arrangement((), mmr), CandidateFacts(rows, (), vectors)),
        "dpp, category": (Arrangement((), dpp), CandidateFacts(rows, (), codes)),
        "dpp, tags": (Arrangement((), dpp), CandidateFacts(rows, (), tags)),
        "dpp, vectors of 64": (Arrangement((), dpp), CandidateFacts(rows, (), vectors)),
        "all, dpp by category": (
            Arrangement(cap, dpp),
            CandidateFacts(rows, (codes,), codes, boosts, promotions, fresh, pins),
        ),
    }
    frame = FeatureFrame((), np.empty((CANDIDATES, 0), dtype=np.float32))
    score = dice.standard_normal(CANDIDATES).astype(np.float32)
    query = Query("r", "home", None, None, PLACES, TimestampMs(0), 1)
    selectors: dict[str, TopK | PlackettLuce] = {"top_k": TopK(), "plackett_luce": PlackettLuce()}
    for name, (rules, facts) in cases.items():
        taken: list[float] = []
        for selector in selectors.values():
            times = list[float]()
            for _ in range(ROUNDS):
                began = time.thread_time()
                rules.select(selector, query, frame, score, facts)
                times.append(time.thread_time() - began)
            taken.append(float(np.quantile(times, 0.05)) * 1e6)
        print(f"{name:24}" + "".join(f"{each:12.0f}" for each in taken))


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cost", action="store_true")
    told = parser.parse_args()
    if told.cost:
        cost()
        return 0
    return int(check(told.first, told.count) > 0)


if __name__ == "__main__":
    sys.exit(main())
