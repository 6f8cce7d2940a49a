"""Clients against a server in a process of its own: one scenario for each of them, and the programs of their page."""

import asyncio

import pytest

from midstream.client import AsyncClient, Client, ClientOptions, RequestRefused
from tests.support.pages import ROOT, blocks
from tests.support.patience import PATIENCE_S
from tests.support.scenario import Run, scenario
from tests.support.served_shop import served_shop

SHOP = scenario("shop")
PATIENT = ClientOptions(deadline_s=PATIENCE_S)
"""A read of past features takes a process, which compiles kernels on a new machine."""
LISTS = {"items", "users", "events", "requests", "dead_letters"}


@pytest.fixture
def url(tmp_path):
    """Address of a server with the configuration of the scenario, and nothing else."""
    with served_shop(tmp_path, SHOP["config"]) as found:
        yield found


def test_the_scenario_by_the_blocking_client(url):
    """Step by step; a second client knows only what it is told."""
    run = Run()
    with Client(url, options=PATIENT) as first, Client(url, options=PATIENT) as second:
        clients = {"first": first, "second": second}
        for step in SHOP["steps"]:
            client = clients[step.get("of", "first")]
            if "set" in step:
                setattr(client, step["set"], run.filled(step["value"]))
                continue
            try:
                answer = getattr(client, step["call"])(
                    *run.filled(step.get("arguments", [])), **run.filled(step.get("fields", {}))
                )
                run.check(step, list(answer) if step["call"] in LISTS else answer)
            except RequestRefused as error:
                run.check_error(step, error, url)


def test_the_scenario_by_the_client_on_an_event_loop(url):
    """The same steps."""

    async def whole():
        run = Run()
        async with AsyncClient(url, options=PATIENT) as first, AsyncClient(url, options=PATIENT) as second:
            clients = {"first": first, "second": second}
            for step in SHOP["steps"]:
                client = clients[step.get("of", "first")]
                if "set" in step:
                    setattr(client, step["set"], run.filled(step["value"]))
                    continue
                called = getattr(client, step["call"])(
                    *run.filled(step.get("arguments", [])), **run.filled(step.get("fields", {}))
                )
                try:
                    run.check(step, [row async for row in called] if step["call"] in LISTS else await called)
                except RequestRefused as error:
                    run.check_error(step, error, url)

    asyncio.run(whole())


def test_the_scenario_has_every_method_of_the_page():
    """But those that have tests of their own: tables, and explanations, which take a process."""
    page = (ROOT / "docs" / "clients.md").read_text("utf-8")
    table = page.partition("| method | route |")[2].partition("\n\n")[0]
    named = {
        word.partition("(")[0]
        for row in table.splitlines()[2:]
        for word in row.split("|")[1].replace("`", "").replace("), ", ");").replace(", ", ";").split(";")
    }
    methods = {word.strip() for word in named if word.strip().isidentifier() and hasattr(Client, word.strip())}
    called = {step["call"] for step in SHOP["steps"] if "call" in step}
    assert methods - called == {"record_frame", "explanation"}
    assert called <= methods


def test_the_programs_of_the_page(url, capsys):
    """One after another on one shop, as they are printed."""
    names = {"url": url}
    programs = [block.text for block in blocks(ROOT / "docs" / "clients.md") if block.language == "python"]
    for program in programs:
        exec(compile(program, "docs/clients.md", "exec"), names)  # noqa: S102  the page's own programs
    said = capsys.readouterr().out
    names["patient"].close()
    assert len(programs) == 7
    assert "/n 0" in said
    assert "['recorded', 'recorded'] Counter({'recorded': 2})" in said


def test_an_explanation_is_waited_for(url):
    """Though the server answers at first that it is being made."""
    with Client(url, options=ClientOptions(deadline_s=PATIENCE_S)) as client:
        client.record([{"type": "view", "session_id": s, "item_id": i} for s in "pq" for i in ("lamp", "shade")])
        slate = client.recommend(session_id="new")
        found = client.explanation(slate.request_id, ["none"])
    assert found.identical
    assert found.why is not None
    assert [item.id for item in found.why.items] == [item.id for item in slate.items]
    assert found.why.asked[0].outcome == "unknown"
