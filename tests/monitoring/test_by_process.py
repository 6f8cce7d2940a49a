import asyncio

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from midstream.monitoring.by_process import TURN_LINES, merged, merged_tenants
from midstream.monitoring.metrics import Metrics

LEADERS = (
    "midstream_snapshot",
    "midstream_events",
    "midstream_sync",
    "midstream_commit",
    "midstream_accepts",
    "midstream_append",
    "midstream_dead",
    "midstream_erasure",
    "midstream_history",
    "midstream_rebuild",
    "midstream_seal",
    "midstream_configuration",
    "midstream_follower",
    "midstream_feature_parity",
)
"""What only the process that owns the log does."""


def samples(text):
    """Return each sample's value by name and labels."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for each in family.samples:
            key = each.name, tuple(sorted(each.labels.items()))
            assert key not in found
            found[key] = each.value
    return found


def test_every_sample_is_there_once_with_its_process():
    """What each process says stands in the text of all, with its name, but for what only the leader does; each
    metric is described once, in one piece.
    """
    texts = {}
    for number, process in enumerate(("leader", "follower-1", "follower-2")):
        metrics = Metrics(CollectorRegistry())
        metrics.observe_request('/a{b="c"} d', 200, number)
        metrics.failures.of("part").inc()
        if number:
            metrics.passed_on.inc()
        texts[process] = metrics.text()
    text = asyncio.run(merged(texts))
    expected = {
        (name, tuple(sorted((*labels, ("process", process))))): value
        for process, own in texts.items()
        for (name, labels), value in samples(own).items()
        if process == "leader" or not name.startswith(LEADERS)
    }
    assert samples(text) == expected
    described = [line.split()[2] for line in text.decode().splitlines() if line.startswith("# HELP")]
    assert len(described) == len(set(described))


def test_one_process_is_itself_with_a_label():
    """Nothing is lost or added."""
    metrics = Metrics(CollectorRegistry())
    own, text = samples(metrics.text()), samples(asyncio.run(merged({"leader": metrics.text()})))
    assert {
        (name, tuple(each for each in labels if each[0] != "process")): value for (name, labels), value in text.items()
    } == own


def test_other_work_is_done_while_texts_are_merged():
    """A shop with a hundred tenants has a text that takes tens of milliseconds; a turn has a few hundred lines."""
    line_count, tenant_count = 4 * TURN_LINES, 7
    text = b"# HELP a Words.\n# TYPE a gauge\n" + b"".join(b'a{n="%d"} 1.0\n' % each for each in range(line_count))

    async def work():
        turns = 0
        merging = asyncio.ensure_future(merged_tenants(text, {f"t{each}": text for each in range(tenant_count)}))
        while not merging.done():
            turns += 1
            await asyncio.sleep(0)
        return turns, await merging

    turns, whole = asyncio.run(work())
    assert whole.count(b"\n") == 2 + line_count * (tenant_count + 1)
    assert turns >= 2 * whole.count(b"\n") / TURN_LINES
