"""Orders of child processes, for tests that run a child's work without a process."""

from types import ModuleType

from midstream.engine.child_process import WorkOrder


def order_type(worker: ModuleType) -> type[WorkOrder]:
    """Return the type that the module of a child decodes its order into: the one ``WorkOrder`` of its own."""
    own = [each for each in vars(worker).values() if isinstance(each, type) and each.__module__ == worker.__name__]
    (found,) = [each for each in own if issubclass(each, WorkOrder)]
    return found
