"""Where public data lies, and how known sets of sessions are read."""

import gzip

import numpy as np

from benchmarks.quality.data_folder import DATA_VARIABLE, data_folder
from benchmarks.quality.session_sets import amazon_sequences, yoochoose


def test_the_data_folder_is_named_or_beside_the_checkout(tmp_path):
    """The environment wins; without it a folder shared/data beside the checkout is taken, if there is one."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    assert data_folder({}, checkout) is None
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert data_folder({}, checkout) == (tmp_path / "shared" / "data").resolve()
    assert data_folder({DATA_VARIABLE: str(tmp_path)}, checkout) == tmp_path


def walked(rows):
    """The items of each session, in the order of the sessions."""
    found: dict[str, list[str]] = {}
    for session, item in zip(rows.session_id.tolist(), rows.item_id.tolist(), strict=True):
        found.setdefault(session, []).append(item)
    return list(found.values())


def test_prefixes_become_sessions_again(tmp_path):
    """The longest prefix and its target are a session; the last twentieth of the training sessions is for choosing."""
    folder = tmp_path / "yoochoose1_64"
    folder.mkdir()
    np.savez(
        folder / "sequences.npz",
        train_items=np.repeat(np.arange(40), 2),
        train_offsets=np.arange(0, 81, 2),
        test_items=np.array([7, 8, 9, 7, 8, 7, 3, 5]),
        test_offsets=np.array([0, 3, 5, 6, 7, 8]),
        test_targets=np.array([6, 9, 8, 4, 5]),
    )
    data = yoochoose(tmp_path)
    split = data.reporting()
    assert walked(split.asked) == [["7", "8", "9", "6"], ["3", "4"], ["5", "5"]]
    assert walked(split.learned) == [[str(item)] * 2 for item in range(40)]
    assert split.learned.time_ms.max() < split.asked.time_ms.min()
    split = data.choosing()
    assert (len(walked(split.learned)), walked(split.asked)) == (38, [["38", "38"], ["39", "39"]])
    assert data.repeat


def test_the_last_two_items_of_a_sequence_are_never_learned(tmp_path):
    """Choosing asks for the one before the last, reporting for the last, both from all before it."""
    folder = tmp_path / "toy"
    folder.mkdir()
    with gzip.open(folder / "toy.txt.gz", "wt") as file:
        file.write("1 3 1 2 4\n2 1 2 5\n")
    data = amazon_sequences("toy", "toy.txt.gz")(tmp_path)
    assert (data.last_only, data.unseen, data.validation_learned) == (True, True, False)
    for split, asked in (
        (data.choosing(), [["3", "1", "2"], ["1", "2"]]),
        (data.reporting(), [["3", "1", "2", "4"], ["1", "2", "5"]]),
    ):
        assert walked(split.learned) == [["3", "1"], ["1"]]
        assert walked(split.asked) == asked
