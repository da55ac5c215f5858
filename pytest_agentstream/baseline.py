"""Known failures by slug: strict, so that an entry goes when its failure does."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentstream.wording import listed, nearest, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TABLE = "known-failures"
ALIKE = 0.85
"""A slug as near to another as this is that one, misspelt."""


class BaselineError(ValueError):
    """A baseline that cannot be used: file, key, what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The failures that are known, each with its reason: `[known-failures] "slug" = "why"`."""

    path: str
    reasons: Mapping[str, str]

    @classmethod
    def load(cls, path: str | None) -> Baseline:
        """Read a baseline file; without a path no failure is known. Raises BaselineError.

        Which slugs there are is known only once a user's own cases are collected: `check`.
        """
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
            if not isinstance(reason, str) or not reason.strip():
                raise BaselineError(
                    f"baseline {path}: {slug} is {shown(reason)}; expected a sentence that says why"
                )
        return cls(path, table)

    def check(self, slugs: Collection[str]) -> None:
        """Raise BaselineError for an entry that is no requirement.

        One whose family has none of the slugs is a user's own, and not collected this time, unless
        it is all but written like one of them.
        """
        families = {slug.partition(".")[0] for slug in slugs}
        for slug in self.reasons:
            own = slug.partition(".")[0] not in families and not get_close_matches(
                slug, slugs, cutoff=ALIKE
            )
            if slug not in slugs and not own:
                hint = nearest(slug, slugs)
                raise BaselineError(
                    f"baseline {self.path}: {slug} is no requirement that is known{hint}"
                )

    def reason(self, slug: str) -> str | None:
        return self.reasons.get(slug)
