"""Every tolerance of the suite, each with its reason. Times are seconds, factors are of H."""

from __future__ import annotations

SILENCE_NEEDED = 3.5
"""A silence shorter than this many H proves nothing: one heartbeat may have come by chance."""

HEARTBEAT_FACTOR = 1.5
"""A gap may be H and half of it again: a busy server that sleeps exactly H is good."""

HEARTBEAT_GRACE = 0.05
"""Added to every heartbeat limit: scheduling and loopback cost this much even where H is tiny."""

IDLE_CUT = 1.5
"""An idle connection is cut after so many H, as impatient load balancers do."""

IDLE_CUT_DOUBT = 0.1
"""Our own lag beyond this much of H may have cut a server whose gaps are H and a third of it."""

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

LAG_SPAN = 1.0
"""Seconds: what our loop was denied of a processor within so long may have made an event late."""

LONGEST_LINE = 64 * 1024
"""Bytes: clients and proxies with line buffers use 64 KiB."""

STOP_WITHIN = 5.0
"""Beside H: a server without a connection to watch learns of a reader's going when it writes."""

DEADLINE_FACTOR, DEADLINE_GRACE = 1.1, 2.0
"""A deadline may be a tenth longer than declared, and take this many seconds to be said."""

CALLED_WITHIN = 0.5
"""A run that is over has asked its LLM already, if it does at all; only our own lag hides it."""

SHUTDOWN_GRACE = 1.0
"""Beside the declared grace: a server begins to count when it learns of the signal."""

HANGS = 1.0
"""Seconds: a start that has had no answer for so long, while the server ends, was left hanging."""

LEASE_FACTOR, LEASE_GRACE = 1.5, 1.0
"""A dead producer's lease ends when it does, and then somebody has to look, and to say so."""

STILL_HELD = 10
"""Descriptors or threads that may come on top in a second storm: pools grow, files are opened."""

LEAKED_PART = 0.2
"""So many for each dropped stream are a leak: workers' pools grow by the worst deal of streams."""

RELEASED_WITHIN = 5.0
"""Seconds behind the end of a run in which what its reader held is given back."""

BACKLOG_PART = 0.75
"""A stalled reader may cost this part of what it was not sent: buffers are of some size."""

RETENTION_GRACE = 0.1
"""Seconds for which a terminal may have been on its way: retention counts from its writing."""

SHORTEST_RETRY, LONGEST_RETRY = 100, 600_000
"""Milliseconds: below, a restart of the server is a storm; above, a user has left."""


def stop_limit(interval: float | None) -> float:
    """The longest time that work goes on for nobody: 5 s, and H where heartbeats are promised."""
    return STOP_WITHIN + (interval or 0.0)


def held_limit(dropped: int) -> float:
    """How many descriptors or threads may come on top in a storm of so many dropped streams."""
    return max(STILL_HELD, dropped * LEAKED_PART)


def deadline_limit(deadline: float) -> float:
    """The latest end of a run with that declared deadline."""
    return deadline * DEADLINE_FACTOR + DEADLINE_GRACE


def heartbeat_limit(interval: float) -> float:
    """The longest silence that a promise of H = `interval` seconds allows."""
    return interval * HEARTBEAT_FACTOR + HEARTBEAT_GRACE
