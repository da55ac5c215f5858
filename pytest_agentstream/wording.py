"""How values and lists are said in a sentence: short, on one line, safe to print."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 120  # characters of a value that a sentence quotes


def shown(value: Any) -> str:
    """Write a value as JSON on one line, cut to LONGEST characters, without lone surrogates."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # dates in TOML; huge or deep values
        text = f"a value of type {type(value).__name__}"
    return capped(text)


def capped(text: str) -> str:
    """Cut a text to LONGEST characters and escape what a terminal or UTF-8 cannot take."""
    cut = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    safe = cut.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in safe)


def listed(words: Iterable[str], last: str = "or") -> str:
    """Join words as a sentence does: `a, b or c`."""
    all_words = list(words)
    if len(all_words) < 2:
        return "".join(all_words)
    return f"{', '.join(all_words[:-1])} {last} {all_words[-1]}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the known word nearest to this one, or an empty string."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
