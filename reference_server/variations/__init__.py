"""Harmless ways to be different, which no case may object to: what the protocol leaves open."""

from __future__ import annotations

from reference_server.variations import upstream, wire
from reference_server.variations.variation import VARIATIONS, Variation

__all__ = ["VARIATIONS", "Variation", "upstream", "wire"]
