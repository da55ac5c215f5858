"""Names of event types and requirements, and the globs that stand for many of them."""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in glob.split("*")), re.DOTALL)


def matches(name: str | None, glob: str) -> bool:
    """Tell whether a name is what the glob stands for; `*` is any text, all else is itself.

    Brackets mean nothing, so that the sentinel `[DONE]` can be written as it is sent.
    """
    if name is None:
        return False
    return name == glob or ("*" in glob and _compiled(glob).fullmatch(name) is not None)
