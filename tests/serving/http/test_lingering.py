"""The end of a connection: what its client still sends is thrown away, for a while and up to a maximum."""

import asyncio

from midstream.serving.http.lingering import LINGER_BYTES_MAX, LINGER_S, Lingering
from tests.support.virtual_loop import VirtualLoop, only_virtual


class Wire(asyncio.Transport):
    """A transport that notes what is done to it."""

    def __init__(self, *, is_reset=False):
        super().__init__()
        self.calls = []
        self.unread = 0
        self._is_reset = is_reset

    def resume_reading(self):
        """Note it."""
        self.calls.append("read on")

    def write_eof(self):
        """Note it, or find that the client has reset the connection."""
        self.calls.append("eof")
        if self._is_reset:
            raise OSError(107, "not connected")

    def get_write_buffer_size(self):
        """Return what the client has not read."""
        return self.unread

    def close(self):
        """Note it."""
        self.calls.append("close")


def lived(seconds, *, wire=None, act=lambda _lingering: None):
    """Return what was done to a wire in some seconds of the end of its connection."""
    loop = VirtualLoop(lambda: 0.0)
    wire = wire or Wire()

    async def live():
        lingering = Lingering(wire, asyncio.get_running_loop(), wire.close)
        act(lingering)
        await asyncio.sleep(seconds)

    with only_virtual(loop):
        loop.run_until_complete(live())
    loop.close()
    return wire.calls


def test_it_reads_on_and_closes_after_a_while():
    """The sending side at once, the whole later; not before."""
    assert lived(LINGER_S * 0.9) == ["read on", "eof"]
    assert lived(LINGER_S * 1.1) == ["read on", "eof", "close"]


def test_it_closes_at_once_behind_too_much():
    """The maximum is thrown away, and one byte more closes."""
    assert lived(0, act=lambda each: each.throw_away(LINGER_BYTES_MAX)) == ["read on", "eof"]
    assert lived(0, act=lambda each: [each.throw_away(LINGER_BYTES_MAX), each.throw_away(1)])[-1] == "close"


def test_it_waits_for_a_client_that_still_reads():
    """The while begins when the last answer is out."""
    wire = Wire()
    wire.unread = 9
    assert lived(LINGER_S * 3.5, wire=wire) == ["read on", "eof"]


def test_a_connection_that_is_lost_is_not_closed_later():
    """Its timer goes with it."""
    assert lived(LINGER_S * 3, act=lambda each: each.stop()) == ["read on", "eof"]


def test_a_client_that_has_reset_the_connection_is_closed():
    """An event loop that says so when the sending side is closed raises nothing further."""
    assert lived(0, wire=Wire(is_reset=True)) == ["read on", "eof", "close"]
