"""Worlds with policies: comparable, honest about what is known, and without a lift where there is none."""

import asyncio
from dataclasses import replace

import httpx
import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config, Placement
from midstream.app.opening import accept_of
from midstream.core.durations import Duration
from midstream.core.errors import Invalid, StoreUnavailable
from midstream.events import wire
from midstream.serving.app import asgi
from midstream.simulation import connection, engine_policy, trials
from midstream.simulation.audience import PAGE_STREAM, AudienceOptions
from midstream.simulation.comparison import compare, interval
from midstream.simulation.engine_policy import EngineQuestion, engine_in_process, engine_over_http
from midstream.simulation.policies import FilledPage, Policy, oracle_policy, popularity_policy, random_policy
from midstream.simulation.season import SeasonOptions, run_season
from midstream.simulation.trials import Trials, run_trials, seeds_of
from midstream.state.settings import StateLimits
from tests.support.rig import Rig, view

SEEDS = (1, 2, 3)
SMALL = SeasonOptions(day_count=6, product_count=120, launch_count=20, audience=AudienceOptions(person_count=120))
BLIND = replace(SMALL, audience=replace(SMALL.audience, signal=0.0))


def season(options, policy_of):
    """Return one season of a policy that needs nothing around it."""
    shop = options.shop()
    return asyncio.run(run_season(options, shop, policy_of(shop)))


def test_policies_meet_the_same_people():
    """Pages, persons and the order in which they come are the same whatever was shown."""
    seasons = [
        season(SMALL, lambda _: random_policy(1, 10)),
        season(SMALL, lambda shop: popularity_policy(shop, 10)),
        season(SMALL, lambda _: oracle_policy(10)),
    ]
    assert len({each.pages for each in seasons}) == 1
    assert all(np.array_equal(each.person, seasons[0].person) for each in seasons)


@pytest.mark.long
def test_equal_seeds_give_equal_seasons_of_the_engine():
    """The engine in process is part of the world: run again, every click is the same."""
    trials = Trials(SEEDS[:2], SMALL)
    assert asyncio.run(run_trials(trials, Config())) == asyncio.run(run_trials(trials, Config()))


def test_policies_come_in_order():
    """Random, popularity, the engine, the oracle: each clearly better than the one before."""
    figures = {each.policy: each for each in asyncio.run(run_trials(Trials(SEEDS, SMALL), Config()))}
    rates = [figures[name].click_rate.mean for name in ("random", "popularity", "midstream", "oracle")]
    assert rates == sorted(rates)
    assert figures["midstream"].lift.low > 0.05
    assert figures["midstream"].of_possible.mean > 0.3


def peeking(options: SeasonOptions) -> Policy:
    """Return a policy that reads the luck of the page, as a leak in the simulation would let one."""

    async def fill(page):
        person = page.person
        key = (person.seed, PAGE_STREAM, person.number, person.visitor.visit_count, page.number)
        luck = np.random.default_rng(key).random(options.product_count + options.launch_count)
        return FilledPage(np.argsort(luck[: page.on_sale])[:10])

    async def learn(_events):
        """Learn nothing."""

    return Policy("peeking", fill, learn)


@pytest.mark.long
def test_a_world_without_signal_shows_no_lift():
    """Where nothing fits anybody better than anything else, neither the engine nor the oracle beats random."""
    figures = asyncio.run(run_trials(Trials((1, 2, 3, 4), BLIND), Config()))
    for each in figures:
        assert each.lift.low <= 0.0 <= each.lift.high, each.policy
        assert abs(each.lift.mean) < 0.04, each.policy


def test_a_leak_would_show_there():
    """The check above can fail: a policy that knows the luck of a page gains much in the same worlds."""
    seasons = [
        [season(replace(BLIND, seed=seed), lambda _, seed=seed: random_policy(seed, 10)) for seed in SEEDS],
        [season(replace(BLIND, seed=seed), lambda _: peeking(BLIND)) for seed in SEEDS],
    ]
    assert compare(seasons)[1].lift.low > 0.1


def test_new_products_reach_the_engine():
    """What comes on sale during the season is in the catalogue from then on, and never before."""
    options = replace(SMALL, seed=4)
    shop = options.shop()

    async def main():
        shown: dict[int, int] = {}
        async with engine_in_process(shop, Config(), None, EngineQuestion()) as policy:

            async def fill(page):
                slate = await policy.fill(page)
                assert (slate.products < page.on_sale).all()
                for product in slate.products.tolist():
                    shown.setdefault(product, page.time_ms)
                return slate

            await run_season(options, shop, replace(policy, fill=fill))
        return shown

    shown = asyncio.run(main())
    assert any(product >= options.product_count for product in shown)


class InProcess:
    """A connection to an app in this process."""

    def __init__(self, app):
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

    async def ask(self, question):
        return msgspec.json.decode(await self._post("/v1/recommendations", question), type=connection.SlateReply)

    async def tell(self, event):
        return msgspec.json.decode(await self._post("/v1/events", event), type=connection.Acknowledgement)

    async def close(self):
        await self.client.aclose()

    async def _post(self, path, content):
        answer = await self.client.post(path, json=content)
        assert answer.is_success, answer.text
        return answer.content


LIMITS = StateLimits(users_max=2_000, items_max=2_000, click_items_max=1_000, sessions_max=9_000, event_ids_max=9_000)
SERVED = Config(limits=LIMITS, placements=(Placement(deadline=Duration("2s")),))


def over_http(monkeypatch, work):
    """Do work with a real engine behind HTTP, in this process."""
    rig = Rig(config=SERVED)

    def accept():
        return msgspec.structs.replace(accept_of(SERVED, wire.Limits()), now_ms=rig.now_ms)

    async def main(rig):
        app = asgi(rig.engine, accept)
        monkeypatch.setattr(engine_policy, "Connection", lambda _url: InProcess(app))
        return await work(rig)

    return rig.run(main)


async def slates_of(options, shop, policy, rig=None):
    """Run a season; return how many items each page had, all of them on sale."""
    counts = []

    async def fill(page):
        if rig is not None:
            rig.now_ms += 10
        slate = await policy.fill(page)
        assert len(set(slate.products.tolist())) == len(slate.products)
        assert (slate.products < page.on_sale).all()
        counts.append(len(slate.products))
        return slate

    await run_season(options, shop, replace(policy, fill=fill))
    return counts


def test_seasons_on_one_server_do_not_meet(monkeypatch):
    """Each seed has a shop of its own there: its slates are as full as in memory, of what it sells, then it is gone."""
    options = replace(SMALL, day_count=3, audience=AudienceOptions(person_count=40))

    async def main(rig):
        found = []
        for seed in (1, 2):
            season = replace(options, seed=seed)
            shop = season.shop()
            async with engine_over_http(shop, "", f"run-{seed}-", EngineQuestion()) as policy:
                found.append(await slates_of(season, shop, policy, rig))
            items = rig.engine.fold.items
            assert items.count > 0
            assert not items.available[: items.count].any()
            async with engine_in_process(shop, SERVED, None, EngineQuestion()) as policy:
                assert await slates_of(season, shop, policy) == found[-1]
        return found

    found = over_http(monkeypatch, main)
    assert [len(each) > 100 for each in found] == [True, True]
    assert {count for each in found for count in each} == {10}


def test_a_server_with_items_of_its_own_is_refused(monkeypatch):
    """What it shows of them would be missing on the shop's pages, so nothing would be measured that is said."""

    async def main(rig):
        await rig.engine.record(rig.batch({"type": "item", "operation": "put", "item_id": "own", "attributes": {}}))
        await rig.engine.record(rig.batch(*[view("own", f"u{n}") for n in range(50)]))
        shop = SMALL.shop()
        async with engine_over_http(shop, "", "run-", EngineQuestion()) as policy:
            await run_season(SMALL, shop, policy)

    with pytest.raises(Invalid, match=r'--url\n.*"own".*not for sale'):
        over_http(monkeypatch, main)


def test_robots_and_warm_up_are_not_measured():
    """Only pages of people after the warm-up are counted."""
    whole = season(replace(SMALL, warm_up=0.0), lambda _: random_policy(1, 10))
    later = season(SMALL, lambda _: random_policy(1, 10))
    crowd = replace(SMALL, audience=replace(SMALL.audience, robot_share=1.0))
    assert 0 < len(later.clicked) < len(whole.clicked) < whole.pages
    assert len(season(crowd, lambda _: random_policy(1, 10)).clicked) == 0


def test_intervals_are_over_seeds():
    """Student's t by hand: 1, 2, 3 have mean 2 and half width 4.3027 / sqrt(3)."""
    found = interval(np.array([1.0, 2.0, 3.0]))
    assert found.mean == pytest.approx(2.0)
    assert found.high - found.mean == pytest.approx(4.302653 / np.sqrt(3.0))


def test_one_seed_is_refused():
    """One season says nothing about chance, and twice the same one nothing more."""
    with pytest.raises(Invalid, match="At least 2 seeds"):
        asyncio.run(run_trials(Trials((1,), replace(SMALL, day_count=1)), Config()))
    with pytest.raises(Invalid, match="Different ones"):
        asyncio.run(run_trials(Trials((1, 1), SMALL), Config()))


def test_one_seed_is_refused_before_a_season_is_run(monkeypatch):
    """Nobody waits for worlds that cannot be compared."""
    monkeypatch.setattr(trials, "run_season", None)
    with pytest.raises(Invalid, match="At least 2 seeds"):
        asyncio.run(run_trials(Trials((1,), SMALL), Config()))


def test_a_season_without_a_measured_page_has_no_rates():
    """Too few people and days: NaN, and nothing is divided by nothing."""
    figures = compare([[season(replace(SMALL, warm_up=1.0), lambda _: random_policy(1, 10))] * 2] * 2)
    assert figures[0].pages == 0
    assert np.isnan([figures[0].click_rate.mean, figures[0].buy_rate.mean]).all()


@pytest.mark.parametrize("url", ["", "nonsense", "127.0.0.1:8765", "https://127.0.0.1:1", "http://", "http://a:b"])
def test_an_address_that_is_none_is_refused(url):
    """With what came and what would be right."""
    with pytest.raises(Invalid, match="such as http://"):
        connection.Connection(url)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nhi",
        b"x" * 100_000,
    ],
)
def test_what_is_no_server_of_ours_is_told(answer):
    """Whatever answers at an address, it is an expected failure that says so."""

    async def answering(reader, writer):
        await reader.readuntil(b"}")
        writer.write(answer)
        writer.close()

    async def main():
        async with await asyncio.start_server(answering, "127.0.0.1", 0) as server:
            visitor = connection.Connection(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            try:
                await visitor.ask({})
            finally:
                await visitor.close()

    with pytest.raises(StoreUnavailable, match=r"midstream server|404"):
        asyncio.run(main())


@pytest.mark.parametrize("text", ["", "1,", "a", "1..", "..3", "1-3"])
def test_seeds_that_are_none_are_refused(text):
    """With what came and what would be right."""
    with pytest.raises(Invalid, match=r"1\.\.5"):
        seeds_of(text)
