"""Rows laid on disk come back, and their file has no name that anybody could find or forget."""

import numpy as np
import pyarrow as pa

from midstream.app.point_in_time.spill import RecordBatchSpill

SCHEMA = pa.schema([("number", pa.int64())])


def test_rows_come_back_and_no_file_is_seen(tmp_path):
    """Not even while rows are written and taken, so a process that is killed leaves nothing behind."""
    with RecordBatchSpill(SCHEMA, tmp_path) as spill:
        for first in range(0, 3_000, 1_000):
            numbers = pa.array(np.arange(first, first + 1_000))
            spill.write(pa.RecordBatch.from_arrays([numbers], schema=SCHEMA))
            assert list(tmp_path.iterdir()) == []
        assert len(spill) == 3_000
        for rows in ([5, 6, 7], [2_999, 0, 1_000, 999], [], range(900, 2_100)):
            wanted = np.array(rows, dtype=np.int64)
            assert spill.take(wanted).column("number").to_pylist() == wanted.tolist()
        assert list(tmp_path.iterdir()) == []
        kept = spill.take(np.arange(3))
    assert kept.column("number").to_pylist() == [0, 1, 2]


def test_a_spill_without_rows(tmp_path):
    """Has none to take."""
    with RecordBatchSpill(SCHEMA, tmp_path) as spill:
        assert spill.take(np.empty(0, dtype=np.int64)).num_rows == 0
