"""What a requirement is: a slug, a level, a tier, a sentence, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How binding a requirement is, in the words of RFC 2119."""

    MUST = "MUST"
    SHOULD = "SHOULD"


MUST, SHOULD = Level.MUST, Level.SHOULD


class Tier(StrEnum):
    """What a server that meets it can be relied on for; each tier builds on the ones before."""

    CORE = "core"
    LIVE = "live"
    RESILIENT = "resilient"
    RESUMABLE = "resumable"
    DURABLE = "durable"
    HARDENED = "hardened"

    @property
    def rank(self) -> int:
        return list(Tier).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One normative sentence.

    `source` names the clause it rests on; `breaks` names who suffers when it is not met; `hint`
    says what to change in a server. `presupposes` are slugs: where one of them is not met, this
    """

    slug: str
    level: Level
    tier: Tier
    text: str
    source: str
    breaks: str = ""
    hint: str = ""
    presupposes: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        return self.slug.partition(".")[0]
