"""Ids of users as gates ask for them: merged, known, and how many stand for one."""

from midstream.engine.answer.user_ids import UserIds
from tests.support.rig import Rig, view


def test_ids_follow_events_and_merges() -> None:
    """An id is known once an event named it; a merged one stands for its user, under every id of it."""

    async def work(rig: Rig) -> None:
        ids = UserIds(lambda: rig.engine.fold)
        assert not ids.is_known("anon-1")
        await rig.engine.record(rig.batch(view("mug", "anon-1"), view("mug", "anon-2")))
        assert ids.is_known("anon-1")
        assert not ids.is_merged("anon-1")
        assert ids.merged_count("ann") == 0
        for count, other in enumerate(("anon-1", "anon-2"), 1):
            merge = {"type": "user", "user_id": "ann", "operation": "merge", "attributes": {"from": other}}
            await rig.engine.record(rig.batch(merge))
            assert ids.is_merged(other)
            assert ids.merged_count("ann") == ids.merged_count(other) == count
        assert not ids.is_merged("ann")
        assert not ids.is_known("bob")

    Rig().run(work)
