"""Known sets by name, under their own protocols."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.__main__ import main
from benchmarks.quality.known_sets import item_set, with_validation
from midstream.app.evaluation.item_models import JudgingOptions, judge_models
from midstream.core.errors import Invalid


def quiet(_text):
    """Nobody watches."""


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    """A folder of data sets with forty sequences of six reviews."""
    folder = tmp_path / "amazon-beauty"
    folder.mkdir()
    random = np.random.default_rng(1)
    lines = [" ".join([str(user), *map(str, random.permutation(9)[:6] + 1)]) for user in range(40)]
    (folder / "Beauty.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    sets = json.dumps({str(item + 1): [item % 3] for item in range(9)})
    (folder / "Beauty_item2attributes.json.gz").write_bytes(gzip.compress(sets.encode()))
    monkeypatch.setenv("MIDSTREAM_DATA", str(tmp_path))
    return tmp_path


def test_the_validation_item_is_learned_where_that_is_asked_for(reviews):
    """Settings stay those of the same questions; a protocol that learns it anyway has no such switch."""
    options = JudgingOptions(k=3, folder=reviews, search_seconds=5.0, trials_max=2)
    (without,) = judge_models(item_set("amazon-beauty"), "popular", options, quiet).reports
    told, tested = replace(options, search_seconds=0.0), with_validation("amazon-beauty")
    (learned,) = judge_models(item_set("amazon-beauty"), "popular", told, quiet, tested).reports
    assert (without.validation_learned, learned.validation_learned) == (False, True)
    assert (without.learned, learned.learned) == (160, 200)
    assert without.questions == learned.questions == 40
    with pytest.raises(Invalid, match=r"(?s)--learn-validation.*is not under leave-one-out"):
        with_validation("gowalla-lightgcn")


@pytest.mark.parametrize(
    "words, status, said",
    [
        ("next-item amazon-beauty --settings {folder}/chosen.json", 0, "HR@10"),
        ("model amazon-beauty popular -k 3 --learn-validation", 0, "the validation part is learned"),
        ("model amazon-beauties popular", 1, "amazon-beauty"),
        ("replay serenade-toy", 1, "Sets: eshop-clothing-2008, online-retail"),
        ("reranking eshop-clothing-2008", 1, "MIDSTREAM_DATA names the folder"),
    ],
)
def test_a_command_takes_the_name_of_a_set(words, status, said, reviews, capfd):
    """Its figures are printed; a set that is not known or not at hand is refused by name."""
    with pytest.raises(SystemExit) as left:
        main(words.format(folder=reviews).split())
    found = capfd.readouterr()
    assert left.value.code == status, found.err
    assert said in " ".join(f"{found.out} {found.err}".split())
