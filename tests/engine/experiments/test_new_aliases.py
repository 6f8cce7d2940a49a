"""Aliases are read in the order in which they were made, in slices, and all again where the last one is gone."""

from midstream.engine.experiments.new_aliases import AliasReader
from midstream.state.ids.aliases import Aliases


def read(reader: AliasReader, aliases: Aliases, count_max: int = 100) -> list[tuple[int, int]]:
    """Return the next aliases."""
    found = reader.read(aliases, count_max)
    return list(zip(found.alias.tolist(), found.into.tolist(), strict=True))


def test_each_alias_is_read_once_in_slices() -> None:
    """In order, and later what came since; an alias that stands for another one by now comes with that one."""
    aliases, reader = Aliases(8), AliasReader()
    assert read(reader, aliases) == []
    for number in range(1, 6):
        aliases.merge(100 + number % 2, number)
    assert read(reader, aliases, 2) == [(1, 101), (2, 100)]
    assert read(reader, aliases, 2) == [(3, 101), (4, 100)]
    assert read(reader, aliases, 2) == [(5, 101)]
    assert read(reader, aliases) == []
    aliases.merge(200, 101)
    assert read(reader, aliases) == [(101, 200)]
    aliases.merge(300, 200)
    assert read(reader, aliases) == [(200, 300)]
    other = AliasReader()
    assert dict(read(other, aliases))[1] == 300


def test_what_is_there_can_be_taken_for_read() -> None:
    """Also where there is nothing yet."""
    aliases, reader = Aliases(8), AliasReader()
    reader.skip(aliases)
    aliases.merge(100, 1)
    assert read(reader, aliases) == [(1, 100)]
    aliases.merge(100, 2)
    reader.skip(aliases)
    assert read(reader, aliases) == []


def test_all_are_read_again_where_the_last_one_is_gone() -> None:
    """Of a forgotten user, or for want of room; no merge is missed."""
    aliases, reader = Aliases(3), AliasReader()
    for number in (1, 2, 3):
        aliases.merge(100 + number, number)
    assert len(read(reader, aliases)) == 3
    aliases.forget(103)
    assert read(reader, aliases) == [(1, 101), (2, 102)]
    for number in (4, 5, 6, 7):
        aliases.merge(100, number)
    assert read(reader, aliases) == [(5, 100), (6, 100), (7, 100)]


def test_all_are_read_again_where_the_last_one_was_made_again() -> None:
    """Forgotten and merged anew between two looks, it is the newest; the merges between are not passed over."""
    aliases, reader = Aliases(8), AliasReader()
    for number in (1, 2, 3):
        aliases.merge(100 + number, number)
    assert len(read(reader, aliases)) == 3
    aliases.merge(104, 4)
    aliases.forget(103)
    aliases.merge(105, 3)
    assert read(reader, aliases) == [(1, 101), (2, 102), (4, 104), (3, 105)]
    assert read(reader, aliases) == []


def test_all_are_read_again_where_the_last_one_that_was_skipped_was_made_again() -> None:
    """Also where it was the only one, and for want of room."""
    aliases, reader = Aliases(2), AliasReader()
    aliases.merge(101, 1)
    reader.skip(aliases)
    for number in (2, 3, 1):
        aliases.merge(100, number)
    assert read(reader, aliases) == [(3, 100), (1, 100)]
