"""Where the answer to a request lies, against an ordered dictionary."""

from collections import OrderedDict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.state.outcomes.requests import Requests
from midstream.state.settings import FoldSettings, StateLimits
from midstream.state.steps import part, step_of
from tests.support.events import Stream, cuts, event_batches, indexed, random_events


def fold(held, batch, requests_max):
    """Fold a batch into an ordered dictionary from request hash to log position."""
    served = (batch.kind == Kind.SERVED) & batch.folded & (batch.request_hash > 0)
    for event in np.flatnonzero(served).tolist():
        key = int(batch.request_hash[event])
        if key not in held:
            if len(held) == requests_max:
                held.popitem(last=False)
            held[key] = batch.first + event


def check(requests, held, batch):
    """Compare everything that can be found."""
    assert len(requests) == len(held)
    for key in (0, *batch.request_hash.tolist()):
        assert requests.find(key) == held.get(key)


@given(event_batches(), st.integers(1, 4), st.data())
def test_requests_are_those_of_a_dictionary_however_the_log_is_cut(batch, requests_max, data):
    """The newest are found, at the position of their first answer; restored on the way."""
    settings = FoldSettings(limits=StateLimits(requests_max=requests_max))
    requests = Requests(settings)
    held: OrderedDict[int, int] = OrderedDict()
    whole = indexed(batch, settings)
    for start, stop in pairwise([0, *data.draw(cuts(len(batch))), len(batch)]):
        piece = part(whole, start, stop)
        requests.apply(step_of(piece))
        fold(held, piece, requests_max)
        check(requests, held, whole)
        fresh = Requests(settings)
        fresh.restore(requests.arrays())
        requests = fresh
    assert requests.arrays()["position"].tolist() == list(held.values())


@pytest.mark.parametrize("requests_max", [7, 300])
def test_a_long_stream_agrees_too(requests_max):
    """The ring goes round many times."""
    settings = FoldSettings(limits=StateLimits(requests_max=requests_max))
    batch = indexed(random_events(5_000, seed=9, stream=Stream(other_share=0.8)), settings)
    requests = Requests(settings)
    held: OrderedDict[int, int] = OrderedDict()
    requests.apply(step_of(batch))
    fold(held, batch, requests_max)
    check(requests, held, batch)
    assert len(held) == requests_max


def test_bytes_are_those_of_the_arrays():
    """What is said is what is reserved."""
    requests = Requests(FoldSettings(limits=StateLimits(requests_max=1_000)))
    ring = requests._ring
    held = [each for each in (*ring.columns, *vars(ring).values()) if isinstance(each, np.ndarray)]
    assert requests.bytes_max == sum(each.nbytes for each in held) - ring.meta.nbytes
    assert requests.bytes_now == 0
