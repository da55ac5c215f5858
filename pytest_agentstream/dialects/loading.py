"""Loading: from a dialect's TOML file to a Dialect, or one error that says all that is wrong."""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pytest_agentstream.complaints import complaints
from pytest_agentstream.dialects.checks import problems_of
from pytest_agentstream.dialects.dialect import Dialect
from pytest_agentstream.dialects.profile import Profile
from pytest_agentstream.dialects.schema_files import SchemaFiles
from pytest_agentstream.wording import listed, nearest

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

MOST = 10  # complaints shown of one file


class DialectError(ValueError):
    """A dialect cannot be loaded; the text names the file, the key, what was found and expected."""


def builtin_names() -> tuple[str, ...]:
    """Return the names of the built-in dialects, in order of the alphabet."""
    room = files("pytest_agentstream.dialects")
    return tuple(sorted(Path(entry.name).stem for entry in room.iterdir() if _is_toml(entry)))


def _is_toml(entry: Traversable) -> bool:
    return entry.name.endswith(".toml")


def load(name_or_path: str | Path) -> Dialect:
    """Return a built-in dialect by name, or a user's own by the path of its TOML file.

    The label of a user's own is its name and the first 12 digits of the SHA-256 of its file,
    followed by those of its schema files in the order of their names. Raises DialectError.
    """
    text = str(name_or_path)
    if text in builtin_names():
        return _builtin(text)
    path = Path(name_or_path)
    if not (text.endswith(".toml") or len(path.parts) > 1 or path.is_file()):
        known = builtin_names()
        raise DialectError(
            f"there is no dialect named {text!r}: expected {listed(known)}, "
            f"or the path of a TOML file{nearest(text, known)}"
        )
    return _load(path, text, builtin=False)


@cache
def _builtin(name: str) -> Dialect:
    entry = files("pytest_agentstream.dialects") / f"{name}.toml"
    return _load(entry, f"{name}.toml", builtin=True)


def _load(file: Traversable | Path, shown: str, *, builtin: bool) -> Dialect:
    raw = _bytes(file, shown)
    profile = _profile(raw, shown)
    schemas = SchemaFiles(_beside(file))
    found = [*problems_of(profile), *schemas.problems_of(profile)]
    if found:
        raise _error(shown, found)
    compiled = {name: schemas.compiled(name, event) for name, event in profile.events.items()}
    if builtin:
        return Dialect(profile, profile.name, compiled)
    digest = hashlib.sha256(raw + schemas.content()).hexdigest()[:12]
    return Dialect(profile, f"{profile.name} sha256:{digest}", compiled)


def _beside(file: Traversable | Path) -> Traversable | Path:
    return file.parent if isinstance(file, Path) else files("pytest_agentstream.dialects")


def _bytes(file: Traversable | Path, shown: str) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise DialectError(
            f"{shown}: there is no such file; expected a dialect's TOML file, "
            f"or one of the names {listed(builtin_names())}"
        ) from None
    except OSError as error:
        raise DialectError(f"{shown}: cannot be read: {error.strerror}") from None


def _profile(raw: bytes, shown: str) -> Profile:
    try:
        declared = tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DialectError(f"{shown}: line {line} is not UTF-8, as TOML must be") from None
    except tomllib.TOMLDecodeError as error:
        last = raw.count(b"\n", 0, len(raw.rstrip())) + 1
        where = str(error).replace("at end of document", f"at line {last}, the end")
        raise DialectError(f"{shown}: no valid TOML: {where}") from None
    except RecursionError:
        raise DialectError(f"{shown}: nested too deeply to be a dialect") from None
    try:
        return Profile.model_validate(declared)
    except ValidationError as error:
        raise _error(shown, [str(one) for one in complaints(error, Profile)]) from None


def _error(shown: str, found: list[str]) -> DialectError:
    lines = [f"{shown}: {one}" for one in found[:MOST]]
    if len(found) > MOST:
        lines.append(f"{shown}: and {len(found) - MOST} more")
    return DialectError("\n".join(lines))
