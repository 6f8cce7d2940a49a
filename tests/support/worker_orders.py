"""Orders of child processes, for tests that run a child's work without a process."""

from types import ModuleType

from midstream.engine.child_process import WorkOrder


def order_type(worker: ModuleType) -> type[WorkOrder]:
    """Return the type that the module of a child decodes its order into: the one ``WorkOrder`` that it names."""
    types = [each for each in vars(worker).values() if isinstance(each, type) and issubclass(each, WorkOrder)]
    (found,) = [each for each in types if each is not WorkOrder]
    return found
