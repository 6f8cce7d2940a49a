"""Orders of child processes, for tests that run a child's work without a process."""

from types import ModuleType

import msgspec


def order_type(worker: ModuleType) -> type[msgspec.Struct]:
    """Return the type that the module of a child decodes its order into: the one of its own whose name ends so."""
    own = [each for each in vars(worker).values() if isinstance(each, type) and each.__module__ == worker.__name__]
    (found,) = [each for each in own if issubclass(each, msgspec.Struct) and each.__name__.endswith("Order")]
    return found
