"""The wire: bytes of an event stream in, blocks and events out (WHATWG HTML 9.2).

Sans-IO: nothing in here opens, reads or waits for anything, and nothing knows an HTTP library or a
dialect.
"""

from __future__ import annotations

from pytest_agentstream.wire.block import Block
from pytest_agentstream.wire.decoder import DEFAULT_LIMIT, Decoder, decode
from pytest_agentstream.wire.event import Event
from pytest_agentstream.wire.line import Line

__all__ = ["DEFAULT_LIMIT", "Block", "Decoder", "Event", "Line", "decode"]
