"""Two files of a shop, its clicks and its catalogue, give a ranker in either order, and no order reads later values."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from midstream.app.ingest.import_file import ImportSummary, import_file
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.opening import config_of
from midstream.app.point_in_time.lookup import Past
from midstream.app.point_in_time.replay_examples import CandidateGroup, ReplayCounts, ReplayWanted, replay_groups
from midstream.app.training.fit import Fitting, Trained, fit_and_publish
from midstream.cli.data.import_file import print_summary
from midstream.core.errors import Invalid
from midstream.models.model import QUIET

TOML = """
[items.attributes]
price = "number"
category = "category"

[limits]
users_max = 300
items_max = 300
click_items_max = 300
event_ids_max = 9999
hot_items_max = 100

[[features]]
name = "price"
kind = "number"
scope = "item"
attribute = "price"

[[placements]]
name = "home"
features = ["price"]
filter = "item.price < 60"

[[models]]
name = "ranker"
kind = "ftrl"
placement = "home"
examples = "replay"
"""
START_S, HOUR_S = 1_700_000_000, 3_600
CLICKS = ColumnOptions(
    columns={"user_id": "visitor", "item_id": "sku", "time": "clicked"}, constants={"type": "view"}, time_format="s"
)
CATALOGUE = ColumnOptions(
    columns={"item_id": "sku", "attributes.price": "price", "attributes.category": "kind"}, constants={"type": "item"}
)


def write_shop(place: Path) -> None:
    """Write a configuration, and the files that a shop's systems would give: clicks with a time, products without."""
    (place / "midstream.toml").write_text(TOML)
    rng = np.random.default_rng(4)
    clicks = [f"v{rng.integers(8)},p{rng.integers(12)},{START_S + n * HOUR_S}" for n in range(90)]
    (place / "clicks.csv").write_text("\n".join(["visitor,sku,clicked", *clicks]) + "\n")
    products = [f"p{n},{n * 6},k{n % 3}" for n in range(12)]
    (place / "products.csv").write_text("\n".join(["sku,price,kind", *products]) + "\n")


def imported(place: Path, *names: str) -> list[ImportSummary]:
    """Import files of the shop, one after another."""
    options = {"clicks.csv": CLICKS, "products.csv": CATALOGUE}
    return [import_file(place, config_of(place), place / name, options[name]) for name in names]


def fitted(place: Path) -> Trained:
    """Train the ranker of the shop's configuration."""
    return fit_and_publish(Fitting(place, config_of(place), "ranker", made_ms=1), QUIET)


@pytest.fixture(params=[("clicks.csv", "products.csv"), ("products.csv", "clicks.csv")], ids=lambda each: each[0][:-4])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A shop whose files were imported in either order."""
    write_shop(tmp_path)
    imported(tmp_path, *request.param)
    return tmp_path


def test_either_order_gives_a_ranker(shop: Path) -> None:
    """A filter on an attribute lets acts through, the counts say what was read from later, and the state has prices."""
    done = fitted(shop)
    assert done.counts["requests"] > 30
    is_late = "rows_with_later_attributes" in done.metrics
    assert is_late == (LogView(shop).read(LogView(shop).begin, 1)[0][1].rows["kind"][0] == 1)
    config = config_of(shop)
    fold = state_of(shop, config, LogView(shop)).fold
    assert fold.items.document(fold.vocabulary.item_index("p3")) == {"price": 18, "category": "k0"}


def groups_of(place: Path, wanted: ReplayWanted) -> tuple[list[CandidateGroup], ReplayCounts]:
    """Return the groups of a replay, and what was counted."""
    past, counts = Past(place, config_of(place)), ReplayCounts()
    return list(replay_groups(past, place, past.block(("price",)), wanted, counts)), counts


def test_both_orders_read_the_same_prices(tmp_path: Path) -> None:
    """Rows of the same act and item have the same values, and where the clicks came first all are counted as later."""
    found = []
    for order in (("clicks.csv", "products.csv"), ("products.csv", "clicks.csv")):
        place = tmp_path / order[0]
        place.mkdir()
        write_shop(place)
        imported(place, *order)
        groups, counts = groups_of(place, ReplayWanted("home"))
        rows = sum(len(each.item_ids) for each in groups)
        assert counts.first_attributes == (rows if order[0] == "clicks.csv" else 0)
        found.append({
            (each.event.event_time_ms, item): value
            for each in groups
            for item, value in zip(each.item_ids, each.values[:, 0].tolist(), strict=True)
        })  # fmt: skip
    assert found[0]
    assert found[0].items() <= found[1].items()


def test_later_values_are_never_read(tmp_path: Path) -> None:
    """Of a price that changed after a day the first one is; without the option there is none."""
    write_shop(tmp_path)
    imported(tmp_path, "clicks.csv", "products.csv")
    config = config_of(tmp_path)
    later = tmp_path / "later.csv"
    later.write_text("sku,price,time\np1,50,2026-01-01T00:00:00Z\np2,59,2026-01-01T00:00:00Z\n")
    columns = {"item_id": "sku", "attributes.price": "price"}
    import_file(tmp_path, config, later, ColumnOptions(columns, {"type": "item"}))
    groups, _ = groups_of(tmp_path, ReplayWanted("home"))
    prices = {(item, value) for each in groups for item, value in zip(each.item_ids, each.values[:, 0], strict=True)}
    assert {("p1", 6.0), ("p2", 12.0)} <= prices
    assert not {("p1", 50.0), ("p2", 59.0)} & prices
    none, counts = groups_of(tmp_path, replace(ReplayWanted("home"), first_attributes=False))
    assert (none, counts.first_attributes) == ([], 0)
    assert counts.acts == 90


def test_without_them_training_says_what_would_help(tmp_path: Path) -> None:
    """No row passes, and the remedy is no option that is set already."""
    write_shop(tmp_path)
    path = tmp_path / "midstream.toml"
    path.write_text(path.read_text() + "first_attributes = false\n")
    imported(tmp_path, "clicks.csv", "products.csv")
    with pytest.raises(Invalid) as caught:
        fitted(tmp_path)
    (fault,) = caught.value.faults
    assert "first_attributes = true" in fault.right
    assert 'examples = "replay"' not in fault.right


def test_an_import_says_that_its_catalogue_comes_late(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of items that were acted on before, once: not of a catalogue that comes first, nor of one that comes again."""
    write_shop(tmp_path)
    _, late = imported(tmp_path, "clicks.csv", "products.csv")
    (tmp_path / "products.csv").write_text("sku,price,kind\np1,7,k1\nnew,9,k1\n")
    (again,) = imported(tmp_path, "products.csv")
    assert (late.late_items, again.late_items, again.recorded) == (12, 0, 2)
    print_summary(late)
    assert "12 items were acted on before this file described them" in capsys.readouterr().err
