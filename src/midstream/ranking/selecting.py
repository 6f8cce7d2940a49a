"""The selectors that rules go together with: each can say how probable a candidate is at a place."""

from typing import TypeAlias

from midstream.ranking.epsilon_greedy import EpsilonGreedy
from midstream.ranking.plackett_luce import PlackettLuce
from midstream.ranking.thompson import Thompson
from midstream.ranking.top_k import TopK

Choosing: TypeAlias = TopK | PlackettLuce | EpsilonGreedy | Thompson
