"""How events become frames, one module for each dialect; the table of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reference_server.encoders.agent_event_stream import AgentEventStream
from reference_server.encoders.encoder import Encoder
from reference_server.encoders.generic_data import GenericData
from reference_server.encoders.generic_typed import GenericTyped
from reference_server.encoders.native import Native

if TYPE_CHECKING:
    from collections.abc import Callable

    from reference_server.cursor import Cursors

ENCODERS: dict[str, Callable[[Cursors], Encoder]] = {
    Native.name: Native,
    AgentEventStream.name: AgentEventStream,
    GenericTyped.name: GenericTyped,
    GenericData.name: GenericData,
}

__all__ = ["ENCODERS", "Encoder"]
