"""Toxics: the faults that Toxiproxy has too, with its names, attributes and meaning.

Durations are seconds here; `toxic` is the same fault as Toxiproxy's API takes it. They act on what
the server sends, unless `direction` says upstream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pytest_agentstream.faults.model import Fault, check

Direction = Literal["downstream", "upstream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic(Fault):
    """A fault that Toxiproxy has too."""

    direction: Direction = "downstream"

    @property
    def attributes(self) -> dict[str, int]:
        """Toxiproxy's attributes in Toxiproxy's units."""
        raise NotImplementedError

    @property
    def toxic(self) -> dict[str, Any]:
        """The fault as Toxiproxy's API takes it."""
        return {
            "type": self.name,
            "stream": self.direction,
            "toxicity": 1.0,
            "attributes": self.attributes,
        }

    def _phrase(self, words: str) -> str:
        return words if self.direction == "downstream" else f"{words}, upstream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(Toxic):
    """Delay all data by `latency` ± `jitter` seconds, and keep its order."""

    name: ClassVar[str] = "latency"
    latency: float
    jitter: float = 0.0

    @property
    def attributes(self) -> dict[str, int]:
        return {"latency": _ms(self.latency), "jitter": _ms(self.jitter)}

    def describe(self) -> str:
        jitter = f" ± {self.jitter:g} s" if self.jitter else ""
        return self._phrase(f"a delay of {self.latency:g} s{jitter}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth(Toxic):
    """Let at most `rate` kB (1,000 bytes) a second through, at least every 100 ms."""

    name: ClassVar[str] = "bandwidth"
    rate: int

    def __post_init__(self) -> None:
        Toxic.__post_init__(self)
        check(self.name, "rate", self.rate, self.rate >= 1, "at least 1 kB/s")

    @property
    def attributes(self) -> dict[str, int]:
        return {"rate": self.rate}

    def describe(self) -> str:
        return self._phrase(f"at most {self.rate} kB/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowClose(Toxic):
    """Hand on the sender's FIN `delay` seconds late."""

    name: ClassVar[str] = "slow_close"
    delay: float

    @property
    def attributes(self) -> dict[str, int]:
        return {"delay": _ms(self.delay)}

    def describe(self) -> str:
        return self._phrase(f"a FIN that comes {self.delay:g} s late")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout(Toxic):
    """Drop all data, and close both sides once none has come for `timeout` seconds.

    0 closes nothing until the sender does, or the fault is lifted, which closes too.
    """

    name: ClassVar[str] = "timeout"
    timeout: float = 0.0

    @property
    def attributes(self) -> dict[str, int]:
        return {"timeout": _ms(self.timeout)}

    def describe(self) -> str:
        ends = f", and a FIN after {self.timeout:g} s" if self.timeout else ""
        return self._phrase(f"all data dropped{ends}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPeer(Toxic):
    """Drop all data, and reset both sides `timeout` seconds after the first of it."""

    name: ClassVar[str] = "reset_peer"
    timeout: float = 0.0

    @property
    def attributes(self) -> dict[str, int]:
        return {"timeout": _ms(self.timeout)}

    def describe(self) -> str:
        after = f" {self.timeout:g} s after" if self.timeout else " at"
        return self._phrase(f"a RST{after} the first byte")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slicer(Toxic):
    """Send what came together in slices of `average_size` ± `size_variation` bytes.

    `delay` is the pause between two slices, in seconds. The variation comes from the proxy's seed.
    """

    name: ClassVar[str] = "slicer"
    average_size: int
    size_variation: int = 0
    delay: float = 0.0

    def __post_init__(self) -> None:
        Toxic.__post_init__(self)
        size, variation = self.average_size, self.size_variation
        check(self.name, "average_size", size, size >= 1, "at least 1 byte")
        check(self.name, "size_variation", variation, variation < size, "less than average_size")

    @property
    def attributes(self) -> dict[str, int]:
        return {
            "average_size": self.average_size,
            "size_variation": self.size_variation,
            "delay": round(self.delay * 1_000_000),  # "Microseconds to delay each packet"
        }

    def describe(self) -> str:
        variation = f" ± {self.size_variation}" if self.size_variation else ""
        pause = f", {self.delay:g} s apart" if self.delay else ""
        return self._phrase(f"slices of {self.average_size}{variation} bytes{pause}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitData(Toxic):
    """Close both sides behind `bytes` bytes of the connection, the head included."""

    name: ClassVar[str] = "limit_data"
    bytes: int

    @property
    def attributes(self) -> dict[str, int]:
        return {"bytes": self.bytes}

    def describe(self) -> str:
        return self._phrase(f"a FIN after {self.bytes} bytes of the connection")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
