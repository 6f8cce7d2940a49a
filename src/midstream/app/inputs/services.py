"""Services of the configured inputs beside an engine, none of them started."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from midstream.app.config.broker_inputs import AnyInput
from midstream.app.config.outputs import Output
from midstream.app.config.reader import FILE_NAME
from midstream.app.config.schema import Config
from midstream.app.inputs.consumers import connector_of
from midstream.app.inputs.known_items import KnownItems
from midstream.core.errors import ConfigInvalid, Fault, MidstreamError
from midstream.engine.inputs.broker_input import BrokerInput
from midstream.engine.inputs.input_group import InputGroup
from midstream.engine.inputs.topic_reader import InputSource
from midstream.engine.instance import Instance
from midstream.events.wire import Accept

PAGE = "/docs/inputs.md"


def with_inputs(running: Instance, config: Config) -> tuple[Instance, InputGroup]:
    """Return an instance with the inputs of a configuration as its last services, and these."""
    known = KnownItems(running.engine)
    group = InputGroup([input_of(running, each, known) for each in config.inputs], running.engine.metrics)
    if not config.inputs:
        return running, group
    running.engine.listeners.add(group.listener)
    if running.leases is not None and running.shared_log is not None:
        group.share(running.leases.lease, running.shared_log.position.topic_id)
    return replace(running, services=(*running.services, known, group)), group


def input_of(running: Instance, options: AnyInput, known: KnownItems | None = None) -> BrokerInput:
    """Return one input of an instance; ``known`` are its items."""
    from midstream.app.inputs.decoding import decoder_of  # Arrow's functions take 0.05 s and 10 MB where they are used

    def accept() -> Accept:
        return msgspec.structs.replace(running.service.accept, now_ms=running.engine.clock())

    source = InputSource(options.name, options.topic, connector_of(options, known=known), decoder_of(options, accept))
    return BrokerInput(source, running.engine, running.ingest)


def input_problem(options: AnyInput) -> str:
    """Return why no consumer of an input can be made, such as an extra that is missing; empty = one can.

    No broker is asked.
    """
    try:
        connector_of(options)(None).close()
    except MidstreamError as error:
        return str(error)
    return ""


def require_secrets(
    tables: Sequence[AnyInput | Output], environ: Mapping[str, str] | None = None, *, name: str = "inputs"
) -> None:
    """Refuse inputs or outputs whose secrets are not in the environment.

    Args:
        tables: Of the configuration.
        environ: None = that of the process.
        name: Of the tables in the file.

    Raises:
        ConfigInvalid: All variables are named that are missing.
    """
    variables = os.environ if environ is None else environ
    if faults := tuple(_missing(tables, variables, name)):
        raise ConfigInvalid(faults)


def _missing(tables: Sequence[AnyInput | Output], environ: Mapping[str, str], table: str) -> Iterator[Fault]:
    for number, each in enumerate(tables):
        for name in each.__struct_fields__:
            variable: object = getattr(each, name)
            if name.endswith("_env") and variable and variable not in environ:
                where = f"{FILE_NAME}: $.{table}[{number}].{name}"
                came = f"The environment has no variable {variable}."
                yield Fault(where, came, f"{variable}=… in the environment of the server.", PAGE)
