"""What a lookup says of one item or user."""

from tests.support.rig import Rig, view


def test_nothing_is_known_of_a_deleted_user_until_it_acts() -> None:
    """Acts and attributes are gone at once, the item keeps its count, and the next act begins anew."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        user = {"type": "user", "user_id": "ann", "operation": "put"}
        await engine.record(rig.batch(view("mug", "ann"), user | {"attributes": {"language": "en"}}))
        assert (engine.user("ann") or {})["attributes"] == {"language": "en"}
        await engine.record(rig.batch({"type": "user", "user_id": "ann", "operation": "delete"}))
        assert engine.user("ann") is None
        await engine.record(rig.batch(view("cup", "ann")))
        known = engine.user("ann") or {}
        assert known["attributes"] == {}
        assert known["counts"] == dict.fromkeys(engine.fold.settings.action_names(), 0) | {"view": 1}
        mug = engine.fold.vocabulary.item_indices(["mug"])
        assert engine.fold.items.window_count("view", 3_600_000, engine.clock(), mug).tolist() == [1.0]

    Rig().run(work)
