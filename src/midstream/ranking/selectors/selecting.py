"""Selectors that slate rules support: each returns the probability of a candidate at a position."""

from typing import TypeAlias

from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.thompson import Thompson
from midstream.ranking.selectors.top_k import TopK

Choosing: TypeAlias = TopK | PlackettLuce | EpsilonGreedy | Thompson
