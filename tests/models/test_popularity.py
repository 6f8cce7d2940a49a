"""Options by which a model proposes less of what is popular anyway do so."""

import msgspec
import numpy as np
import pytest

from midstream.evaluation.metrics.list_metrics import average_popularity
from midstream.models.items.als import AlsOptions, fit_als
from midstream.models.items.ease import EaseOptions, fit_ease
from midstream.models.items.graph_filter import GraphFilterOptions, fit_graph_filter
from midstream.models.kernels.top_n import top_n
from tests.models.linear import some_interactions

WAYS = [
    (fit_als, AlsOptions(factors=12, unobserved_weight=0.1, regularization=0.03), "item_power", (0.0, 0.5, 1.0)),
    (fit_ease, EaseOptions(regularization=5.0), "item_power", (0.0, 0.5, 1.0)),
    (fit_ease, EaseOptions(regularization=5.0, exact_items_max=0), "item_power", (0.0, 0.5, 1.0)),
    (fit_graph_filter, GraphFilterOptions(factors=8, low_pass=0.0), "item_power", (0.2, 0.5, 0.8)),
]


@pytest.mark.parametrize("fit, options, name, values", WAYS)
def test_lists_are_of_less_popular_items(fit, options, name, values) -> None:
    """The more, the less popular is what is listed on average."""
    data = some_interactions(3, users=400, items=60)
    often = np.bincount(data.histories.matrix(60).indices, minlength=60).astype(np.int64)
    found = []
    for value in values:
        model = fit(data, msgspec.structs.replace(options, **{name: value}))
        lists = top_n(model, data.histories, 5, data.histories)
        found.append(float(np.nanmean(average_popularity(lists, often))))
    assert found[0] > found[1] > found[2], found
