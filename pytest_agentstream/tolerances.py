"""Every tolerance of the suite, each with its reason. Times are seconds, factors are of H."""

from __future__ import annotations

SILENCE_NEEDED = 3.5
"""A silence shorter than this many H proves nothing: one heartbeat may have come by chance."""

HEARTBEAT_FACTOR = 1.5
"""A gap may be H and half of it again: a busy server that sleeps exactly H is good."""

HEARTBEAT_GRACE = 0.05
"""Added to every heartbeat limit: scheduling and loopback cost this much even where H is tiny."""

HEARTBEATS_PER_INTERVAL = 5.0
"""More heartbeats per H than this, while idle, are a flood."""

FLOOD_GRACE = 3
"""Heartbeats beyond the rate that are forgiven: a silence has edges."""

CLOSE_AFTER_TERMINAL = 2.0
"""A stream ends this soon after its terminal."""

WATCH_AFTER_TERMINAL = 2.5
"""How long the client reads on behind a terminal, to see CLOSE_AFTER_TERMINAL broken."""

SILENCE_SHORTFALL = 0.9
"""A declared silence may be this much shorter than declared: clocks and sleeps round down."""

HEAD_AT_ONCE = 1.0
"""A head later than this is taken for a hanging server by impatient clients."""

HELD_BACK = 0.1
"""An event may be held back for this long, or half of the silence behind it if that is longer."""

SENT_WITHIN = 0.03
"""Nothing says that a request has arrived; on its way it takes less than this."""

BESIDE_REPLAY = 0.5
"""A first event later than this is noticed; alone it takes milliseconds."""

LAG_NOTICED = 0.005
"""Lag of our own event loop below this is not told apart from ordinary scheduling."""

LONGEST_LINE = 64 * 1024
"""Bytes: clients and proxies with line buffers use 64 KiB."""

SHORTEST_RETRY, LONGEST_RETRY = 100, 600_000
"""Milliseconds: below, a restart of the server is a storm; above, a user has left."""


def heartbeat_limit(interval: float) -> float:
    """The longest silence that a promise of H = `interval` seconds allows."""
    return interval * HEARTBEAT_FACTOR + HEARTBEAT_GRACE
