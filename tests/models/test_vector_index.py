"""An index of vectors without its library."""

import pytest

from midstream.core.errors import ExtraMissing
from midstream.models import vector_index
from midstream.models.vector_index import VectorIndex
from midstream.state.attributes.vectors import Vectors


def test_without_the_library_it_says_which_extra_brings_it(monkeypatch):
    """By its name."""

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(vector_index, "import_module", absent)
    with pytest.raises(ExtraMissing, match=r"install midstream\[vectors\]"):
        VectorIndex(Vectors(3, 2)).catch_up()
