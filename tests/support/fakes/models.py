"""Small models to publish, a component of one's own that reads one, and what stands for models in service."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_matrix

from midstream.app.opening import config_of, open_running
from midstream.core.errors import MidstreamError, NotFound
from midstream.core.types import Calibration
from midstream.engine.instance import Instance
from midstream.engine.models.views import ModelView
from midstream.models.artifact.artifact import Draft
from midstream.models.artifact.golden import item_content, row_content
from midstream.models.histories import Histories
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import FtrlOptions, fit_ftrl
from midstream.models.vocabulary import ItemVocabulary
from midstream.training.registry import Registry

T = TypeVar("T")
CALIBRATION = Calibration(slope=0.8, offset=-1.0, is_probability=True)
COMPONENTS = '''
"""Proposes what a model says of the last item."""

import msgspec
import numpy as np

from midstream.core.types import Moment, Proposal
from midstream.models.histories import Histories
from midstream.models.items.item_to_item import ItemToItem
from midstream.state.ids.vocabulary import Vocabulary


class Near(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str = "near"

    @property
    def name(self) -> str:
        return "near"

    @property
    def model_names(self) -> tuple[str, ...]:
        return (self.model,)

    def retrieve(self, moment: Moment) -> Proposal:
        model = moment.models.get(self.model, ItemToItem)
        vocabulary = moment.table(Vocabulary)
        rows = model.vocabulary.under(vocabulary.id_key).rows_of(vocabulary.item_hash[moment.recent_item_index])
        best, scores = model.best(Histories.of([rows[rows >= 0].tolist()]), 10)
        indices = vocabulary.item_indices([model.vocabulary.id_of(row) for row in best.tolist()])
        return Proposal(indices[indices >= 0].astype(np.int32), scores[indices >= 0])
'''
CONFIG = """
[limits]
users_max = 100
items_max = 200
click_items_max = 100
sessions_max = 100
index_sessions_max = 100
event_ids_max = 1000
requests_max = 100
outcome_slates_max = 100
outcome_items_max = 2000
document_bytes_max = 100000
hot_items_max = 100
new_items_max = 100

[[placements]]
name = "home"
sources = [{ kind = "custom", path = "components:Near" }]
# A component of one's own is judged by the clock: on a machine that others keep busy 25 ms are soon over.
deadline = "10s"
"""


def write_folder(folder: Path) -> None:
    """Write a configuration whose placement ``home`` asks the model ``near``."""
    (folder / "midstream.toml").write_text(CONFIG)
    (folder / "components.py").write_text(COMPONENTS)


def chain_of(items: int, step: int, prefix: str = "item-") -> ItemToItem:
    """Return a model that says of each item the one ``step`` further on."""
    ids = [f"{prefix}{number}" for number in range(items)]
    vocabulary = ItemVocabulary.of(ids)
    rows = np.arange(items)
    weights = csr_matrix((np.ones(items, dtype=np.float32), (rows, (rows + step) % items)), shape=(items, items))
    return ItemToItem.of(vocabulary, weights)


def publish_chain(registry: Registry, step: int, name: str = "near", items: int = 9, prefix: str = "item-") -> str:
    """Publish ``chain_of``; return its version."""
    model = chain_of(items, step, prefix)
    draft = Draft(
        name=name,
        kind="item_to_item",
        vocabulary_hash=model.vocabulary.content_hash,
        options={"step": step},
        metrics={"ndcg@20": step / 10},
    )
    return registry.publish(draft, item_content(model, Histories.of([[0, 1], [2]])))


def write_ranked(folder: Path, features: Sequence[str] = ("carts",)) -> None:
    """Write a configuration whose placement ``home`` is ranked by the model ``ranker`` and reads some features."""
    declared = "".join(
        f'[[features]]\nname = "{name}"\nkind = "count"\nscope = "item"\nactions = ["{name[:-1]}"]\n\n'
        for name in ("carts", "views")
    )
    read = ", ".join(f'"{name}"' for name in features)
    placement = f'features = [{read}]\nscorers = [{{ kind = "model", name = "ranker" }}]\n'
    limits = CONFIG.partition("[[placements]]")[0]
    (folder / "midstream.toml").write_text(f'{limits}{declared}[[placements]]\nname = "home"\n{placement}')


def publish_linear(registry: Registry, inputs: Sequence[str] = ("carts",), name: str = "ranker") -> str:
    """Publish a linear model of some columns, calibrated, that prefers more of the first; return its version."""
    values = np.repeat(np.arange(8, dtype=np.float32)[:, None], len(inputs), axis=1)
    values = np.tile(values, (20, 1))
    label = (values[:, 0] > 3).astype(np.float32)
    model = fit_ftrl(Examples.of_rows(tuple(inputs), values, label), FtrlOptions(bins=1, l1=0.0))
    draft = Draft(name=name, kind="ftrl", inputs=model.inputs, options={"inputs": len(inputs)}, calibration=CALIBRATION)
    return registry.publish(draft, row_content(model, values[:8]))


def run_folder(folder: Path, work: Callable[[Instance], Awaitable[T]]) -> T:
    """Open a folder as its configuration says, do the work beside it, close it; return what the work returned."""

    async def main() -> T:
        running = open_running(folder, config_of(folder))
        await running.start()
        try:
            return await work(running)
        finally:
            await running.stop()

    return asyncio.run(main())


class FakeChampions:
    """One model ``near`` with two versions, the first of them champion; fails as ``failure`` says."""

    failure: MidstreamError | None = None

    def __init__(self) -> None:
        """Begin with the first."""
        self._now, self._previous = "0001-3fa9c2d41b22", "0002-77aa01bc93de"

    async def views(self) -> Sequence[ModelView]:
        """Return the one model."""
        return [await self.view("near")]

    async def view(self, name: str) -> ModelView:
        """Return the model, or raise ``NotFound``."""
        if name != "near":
            message = f"no model {name!r} is known"
            raise NotFound(message)
        return ModelView(name, {"champion": self._now}, {"champion": self._previous}, self._now, "", "", ())

    async def promote(self, name: str, wanted: str = "", alias: str = "champion") -> None:
        """Let the other version be champion."""
        await self.view(name)
        if self.failure is not None:
            raise self.failure
        self._now, self._previous = self._previous, self._now

    async def rollback(self, name: str, alias: str = "champion") -> None:
        """Let the other version be champion."""
        await self.promote(name)
