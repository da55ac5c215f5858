"""Words of a command line that have gone astray."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.astray import astray
from pytest_agentstream.plugin import PREFIX, values_of_options

if TYPE_CHECKING:
    from pathlib import Path

CMD = f"{PREFIX}command"
WHOLE = "uvicorn app:app --port {port}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([f"{PREFIX}double", "4011"], "double takes no value, and found '4011'; a port of its own"),
        ([f"{PREFIX}double=4011"], "double takes no value, and found '4011'; a port of its own is"),
        ([f"{PREFIX}plan=yes"], "plan takes no value, and found 'yes'"),
        ([f"{PREFIX}dialect"], "dialect needs a value, NAME|FILE, and found nothing"),
        ([f"{PREFIX}grace", "--lf"], "grace needs a value, SECONDS, and found '--lf'"),
        ([CMD, *WHOLE.split()], f"in quotes: {CMD} '{WHOLE}'"),
        ([CMD, *WHOLE.split(), "-x"], f"in quotes: {CMD} '{WHOLE}'"),
        ([f"{CMD}=uvicorn", *WHOLE.split()[1:]], f"in quotes: {CMD} '{WHOLE}'"),
        ([CMD, "uvicorn app:app", "--port", "{port}"], f"in quotes: {CMD} '{WHOLE}'"),
        ([CMD, "npm", "run", "dev", f"{PREFIX}url", "/chat"], f"in quotes: {CMD} 'npm run dev'"),
        ([CMD, WHOLE, CMD, *WHOLE.split()], f"in quotes: {CMD} '{WHOLE}'"),
    ],
    ids=str,
)
def test_a_word_gone_astray(tmp_path: Path, words: list[str], said: str) -> None:
    """The option, what was found and what was expected are named."""
    found = astray(words, values_of_options(), tmp_path, prefix=PREFIX)
    assert found is not None
    assert found.startswith(PREFIX)
    assert said in found


@pytest.mark.parametrize(
    "words",
    [
        [CMD, WHOLE, "tests"],
        [CMD, WHOLE, f"{PREFIX}url", "http://127.0.0.1:{port}/chat"],
        [CMD, WHOLE, "http://127.0.0.1:{port}/chat"],
        [CMD, "./serve", "tests"],
        [CMD, "./serve", "tests::test_a", "-k", "a"],
        [CMD, "./serve", "agentstream/http.py::test_status"],
        [CMD, "./serve", "--pyargs", "some.package"],
        [CMD, "./serve", "/chat"],
        [f"{PREFIX}double", "tests"],
        [f"{PREFIX}double", "2024"],
        ["--other", "{port}", "4011"],
        [],
    ],
    ids=str,
)
def test_words_that_mean_what_they_say(tmp_path: Path, words: list[str]) -> None:
    """Paths that exist, cases, URLs and options stay what they are."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "2024").mkdir()
    assert astray(words, values_of_options(), tmp_path, prefix=PREFIX) is None
