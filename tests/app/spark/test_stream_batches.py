"""What tells batches of a stream apart: their query, the columns of their rows and the types that have an order."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from midstream.core.errors import ExtraMissing, Invalid
from midstream.integrations.spark.library import spark_module
from midstream.integrations.spark.stream_batches import _require_order, columns_key, query_id


def kind(name, inner=(), element=None):
    """Return a type as PySpark has it."""
    fields = [SimpleNamespace(name=field, dataType=of) for field, of in inner]
    return SimpleNamespace(
        typeName=lambda: name,
        fields=fields,
        elementType=element,
        simpleString=lambda: f"{name}<{[(field.name, field.dataType.simpleString()) for field in fields]}>",
    )


def frame(*fields, query="q"):
    """Return a DataFrame as far as it is asked."""
    context = SimpleNamespace(getLocalProperty=lambda _: query)
    schema = SimpleNamespace(fields=[SimpleNamespace(name=name, dataType=of) for name, of in fields])
    return SimpleNamespace(schema=schema, sparkSession=SimpleNamespace(sparkContext=context))


@pytest.mark.parametrize("query", [None, ""])
def test_a_batch_is_of_a_query(query):
    """Without an id nothing would tell two apart."""
    assert query_id(frame()) == "q"
    with pytest.raises(Invalid, match="no query hands over"):
        query_id(frame(query=query))


def test_what_is_not_installed_is_named(monkeypatch):
    """PySpark is there without pandas, and could call nothing."""
    for name in ("pyspark", "pyspark.sql"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ExtraMissing, match=r"with pandas: install midstream\[spark\]"):
        spark_module("sql")


def test_columns_are_the_same_in_any_order():
    """Names and types count."""
    text, number = kind("string"), kind("double")
    one = columns_key(frame(("a", text), ("b", number)))
    assert one == columns_key(frame(("b", number), ("a", text)))
    others = [
        columns_key(frame(("a", number), ("b", number))),
        columns_key(frame(("a", text), ("c", number))),
        columns_key(frame(("a", text))),
    ]
    assert len({one, *others}) == 4


def test_types_without_an_order_are_found_inside_of_others():
    """By what they are; a field may be called as it likes."""
    text = kind("string")
    site = kind("struct", [("roadmap", text), ("heatmap", kind("array", element=text)), ("variant", text)])
    _require_order(frame(("context", site), ("map", text)))
    within = kind("array", element=kind("struct", [("page", kind("map"))]))
    for wrong in (kind("map"), kind("variant"), within, kind("struct", [("x", kind("variant"))])):
        with pytest.raises(Invalid, match="no order"):
            _require_order(frame(("context", wrong)))
