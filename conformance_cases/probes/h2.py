"""A run over HTTP/2, which is started only where a TLS handshake has led to it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from pytest_agentstream.probing import probe
from pytest_agentstream.verdicts import NotApplicable, NotTested

if TYPE_CHECKING:
    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.target import Target


@probe(scenarios=["complete"], runs=0)  # nothing is started but where HTTP/2 is spoken
async def h2_run(client: Driver, target: Target) -> Observation:
    """An ordinary run over HTTP/2, as far as its first exchange goes."""
    if target.parts.scheme != "https":
        raise NotApplicable("HTTP/2 is negotiated over TLS, and the target is plain http")
    if target.trust_env:
        raise NotTested(
            "over HTTP/2 nothing is asked through the proxies that the environment names",
            "leave out trust_env",
        )
    over_http2 = await client.over_http2()
    if over_http2 is None:
        raise NotApplicable("the server does not speak HTTP/2")
    if find_spec("h2") is None:
        raise NotTested(
            "the server speaks HTTP/2, and the package h2 is not installed",
            "pip install 'pytest-agentstream[h2]'",
        )
    return await over_http2.run("complete", reconnect=False)
