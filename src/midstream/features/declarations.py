"""All declared features of a configuration, and the blocks of columns that placements and callers read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from midstream.core.errors import NotFound
from midstream.core.nearest import nearest
from midstream.events.wire import AttributeKind
from midstream.features.declared import DeclaredFeatures, declared
from midstream.features.kinds.kinds import AnyFeature, columns_by_name, program_of
from midstream.features.readers.external import ExternalTable
from midstream.state.expressions.program import Expression, Program

BLOCKS_MAX = 64
"""Blocks kept, each of other features: more than there are placements with features of their own, usually."""


@dataclass(frozen=True, slots=True)
class Declarations:
    """The features that can be read, in the order in which they were declared."""

    features: tuple[AnyFeature, ...] = ()
    attributes: tuple[tuple[str, AttributeKind], ...] = ()
    """Declared item attributes, which features may read."""
    tables: tuple[ExternalTable, ...] = ()
    """Content of the tables that features read."""
    _blocks: dict[tuple[str, ...], DeclaredFeatures] = field(
        default_factory=dict[tuple[str, ...], DeclaredFeatures], compare=False, repr=False
    )
    """Made at the first use: a program of 40 columns takes about 1 ms to compile."""
    _programs: dict[str, Program] = field(default_factory=dict[str, Program], compare=False, repr=False)
    """Of one feature each."""
    _columns: dict[str, Expression] = field(default_factory=dict[str, Expression], compare=False, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(each.name for each in self.features)

    def feature(self, name: str) -> AnyFeature:
        """Return one feature.

        Raises:
            NotFound: None has that name.
        """
        found = next((each for each in self.features if each.name == name), None)
        if found is None:
            message = f'"{name[:64]}" is not a declared feature.{nearest(name, self.names)}'
            raise NotFound(message)
        return found

    def block(self, names: Sequence[str]) -> DeclaredFeatures:
        """Return the block of the features of these names, in this order.

        Raises:
            NotFound: One of them is not declared.
        """
        key = tuple(names)
        found = self._blocks.get(key)
        if found is None:
            tables = {each.name: each for each in self.tables}
            kinds: Mapping[str, AttributeKind] = dict(self.attributes)
            found = declared([self.feature(name) for name in key], kinds, self.features, tables)
            if len(self._blocks) >= BLOCKS_MAX:
                self._blocks.pop(next(iter(self._blocks)))
            self._blocks[key] = found
        return found

    def columns(self) -> Mapping[str, Expression]:
        """Return the expression of each column of all features, by its name."""
        if not self._columns and self.features:
            self._columns.update(columns_by_name(self.features, dict(self.attributes)))
        return self._columns

    def program(self, name: str) -> Program:
        """Return the program of one feature: its columns and their cells.

        Raises:
            NotFound: None has that name.
        """
        if name not in self._programs:
            self._programs[name] = program_of([self.feature(name)], dict(self.attributes), self.features)
        return self._programs[name]


NONE = Declarations()
