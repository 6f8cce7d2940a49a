"""Columns of rows: what a row says is what a read of features answers at the log time of its version."""

from midstream.engine.answer.feature_reads import declared_by
from midstream.engine.requests.schema import FeatureAsk
from midstream.engine.sinks.row_columns import LOG_TIME, OwnerRowReader, row_columns
from midstream.events.memory import MemoryLog
from tests.support.rig import Rig, view
from tests.support.sinks import CONFIG, USERS


def test_a_row_says_what_a_read_of_features_answers_at_its_log_time() -> None:
    """Minutes after the act, to the bit; half-lives stand beside the columns that fade."""
    rig = Rig(log=MemoryLog(), config=CONFIG)

    async def work(_: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(view("lamp", "ann")))
        rig.now_ms += 600_000
        await engine.record(rig.batch(view("lamp", "bob")))
        told = row_columns("user", USERS, CONFIG.features, CONFIG.items.attributes)
        assert told.half_lives == {"lately": (3_600_000,)}
        slot = engine.fold.vocabulary.user_index("ann")
        values = OwnerRowReader(told).user(engine.fold, declared_by(engine.plans), "ann", slot)
        row = dict(zip(told.kinds, values, strict=True))
        assert row[LOG_TIME] == rig.now_ms
        read = await engine.read_features(FeatureAsk(user_id="ann", features=("views", "lately"), items=("lamp",)))
        assert [row["views"], row["lately"]] == read.values[0].tolist()
        assert row["row_recent_items"] == ["lamp"]

    rig.run(work)
