"""Known failures by slug: strict, so that an entry goes when its failure does."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentstream.wording import listed, nearest, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TABLE = "known-failures"


class BaselineError(ValueError):
    """A baseline that cannot be used: file, key, what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The failures that are known, each with its reason: `[known-failures] "slug" = "why"`."""

    path: str
    reasons: Mapping[str, str]

    @classmethod
    def load(cls, path: str | None, slugs: Collection[str]) -> Baseline:
        """Read a baseline file; without a path no failure is known. Raises BaselineError."""
        if path is None:
            return cls("", {})
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise BaselineError(f"baseline {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BaselineError(f"baseline {path}: no valid TOML: {error}") from None
        table = document.pop(TABLE, {})
        if document or not isinstance(table, dict):
            found = listed(document, "and") or shown(table)
            raise BaselineError(f"baseline {path}: expected one table [{TABLE}], found {found}")
        for slug, reason in table.items():
            if slug not in slugs:
                hint = nearest(slug, slugs)
                raise BaselineError(
                    f"baseline {path}: {slug} is no requirement that is known{hint}"
                )
            if not isinstance(reason, str) or not reason.strip():
                raise BaselineError(
                    f"baseline {path}: {slug} is {shown(reason)}; expected a sentence that says why"
                )
        return cls(path, table)

    def reason(self, slug: str) -> str | None:
        return self.reasons.get(slug)
