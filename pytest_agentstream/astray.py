"""Words of a command line that have gone astray, and what was meant: told before they mislead.

Imports the standard library alone, since every pytest run on the machine may come by here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PORT = "{port}"
MORE = {"double": "; a port of its own is a setting: [tool.agentstream] double = 4011"}
"""What else is to be said of a flag that was given a value."""


def astray(
    words: Sequence[str], options: Mapping[str, str | None], here: Path, *, prefix: str
) -> str | None:
    """Return a sentence on the first word that is not where it was meant to be, if there is one.

    `options` are ours, without `prefix`: what the value of each is called, None for a flag. `here`
    is the folder in which paths are looked for.
    """
    taken = False  # by the option before
    for number, word in enumerate(words):
        if taken:
            taken = False
            continue
        name, equals, value = word.removeprefix(prefix).partition("=")
        if not word.startswith(prefix) or name not in options:
            continue
        behind = words[number + 1 :]
        following = behind[0] if behind else None
        metavar = options[name]
        if metavar is None:
            given = value if equals else following
            if equals or (given and given.isdigit() and not (here / given).exists()):
                return f"{prefix}{name} takes no value, and found {given!r}{MORE.get(name, '')}"
            continue
        taken = not equals
        if taken and (following is None or following.startswith("--")):
            found = "nothing" if following is None else repr(following)
            return f"{prefix}{name} needs a value, {metavar}, and found {found}"
        if name == "command":
            command, rest = (value, behind) if equals else (following or "", behind[1:])
            lost = _lost(rest, options, here, prefix, quoted=" " in command)
            if lost:
                meant = " ".join((command, *lost))
                return (
                    f"{prefix}command is {command!r} alone, and {' '.join(lost)!r} stands behind "
                    f"it; expected the whole command in quotes: {prefix}command '{meant}'"
                )
    return None


def _lost(
    rest: Sequence[str],
    options: Mapping[str, str | None],
    here: Path,
    prefix: str,
    *,
    quoted: bool,
) -> list[str]:
    """The words behind a command that can only be a part of it: none where they mean anything."""
    mine: list[str] = []
    for word in rest:
        ours = word.removeprefix(prefix).partition("=")[0]
        if (word.startswith(prefix) and ours in options) or _is_url(word):
            break
        mine.append(word)
    if any(PORT in word for word in mine):
        last = max(number for number, word in enumerate(mine) if PORT in word)
        return mine[: last + 1]
    if quoted or not mine or mine[0].startswith("-") or "--pyargs" in rest:
        return []
    path = mine[0].partition("::")[0]
    is_case = path.partition("/")[0] in {"agentstream", "conformance_cases"}
    return [] if is_case or (here / path).exists() else mine


def _is_url(word: str) -> bool:
    return "://" in word or word.startswith("/")
