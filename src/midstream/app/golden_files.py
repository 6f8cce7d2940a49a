"""Files of known answers of trained models: read and checked where the configuration is, and before each fit.

A fit takes minutes to hours and its version is then held back by a file that nobody can read: so it is read first. A
file lies in the folder of the configuration, links followed, since the configuration may come from another place than
the folder and nothing outside of it is to be read by its word.
"""

from pathlib import Path

from midstream.app.config.reader import FILE_NAME
from midstream.app.config.schema import Config
from midstream.core.errors import ConfigInvalid, Fault
from midstream.training.gates.golden_answers import PAGE, GoldenFile, read_golden
from midstream.training.options import TrainingTable


def require_golden(config: Config, folder: Path) -> Config:
    """Return a configuration, once the file of each training that names one was read.

    Raises:
        ConfigInvalid: One leads out of the folder, is not there, or holds something else; every fault is named.
    """
    faults: list[Fault] = []
    for number, each in enumerate(config.trainings):
        try:
            golden_of(each, folder)
        except ConfigInvalid as error:
            where = f"{FILE_NAME}: $.trainings[{number}].gates.golden"
            faults += [Fault(where, f"{each.gates.golden}: {fault.came}", fault.right, PAGE) for fault in error.faults]
    if faults:
        raise ConfigInvalid(tuple(faults))
    return config


def golden_of(table: TrainingTable, folder: Path) -> GoldenFile | None:
    """Return the known answers of a training, None = it names no file.

    Raises:
        ConfigInvalid: As ``require_golden`` says.
    """
    path = golden_path(table, folder)
    return None if path is None else read_golden(path)


def golden_path(table: TrainingTable, folder: Path) -> Path | None:
    """Return the file of known answers of a training, None = it names none.

    Raises:
        ConfigInvalid: It leads out of the folder.
    """
    if not table.gates.golden:
        return None
    root = folder.resolve()
    path = (root / table.gates.golden).resolve()
    if not path.is_relative_to(root):
        came = "It leads out of the folder of midstream.toml."
        raise ConfigInvalid((Fault(table.gates.golden, came, "A file in that folder.", PAGE),))
    return path
