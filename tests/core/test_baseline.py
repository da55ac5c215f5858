"""Baselines: known failures by slug, each with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.baseline import Baseline, BaselineError

if TYPE_CHECKING:
    from pathlib import Path

SLUGS = ("framing.utf-8", "resume.live-tail")


def test_no_file_knows_nothing() -> None:
    """Without a file no failure is known."""
    assert Baseline.load(None).reason("framing.utf-8") is None


def test_a_known_failure_has_its_reason(tmp_path: Path) -> None:
    """An entry is a slug with the reason why it is left as it is."""
    path = tmp_path / "known.toml"
    path.write_text('[known-failures]\n"framing.utf-8" = "issue 12"\n')
    baseline = Baseline.load(str(path))
    baseline.check(SLUGS)
    assert baseline.reason("framing.utf-8") == "issue 12"
    assert baseline.reason("resume.live-tail") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[known-failures]\n"framing.utf8" = "x"',
            "FILE: framing.utf8 is no requirement that is known; did you mean framing.utf-8?",
        ),
        (
            '[known-failures]\n"framing.utf-8" = ""',
            'FILE: framing.utf-8 is ""; expected a sentence',
        ),
        ('[known-failures]\n"framing.utf-8" = 5', "FILE: framing.utf-8 is 5; expected a sentence"),
        (
            '[known]\n"framing.utf-8" = "x"',
            "FILE: expected one table [known-failures], found known",
        ),
        ("known-failures = 5", "FILE: expected one table [known-failures], found 5"),
        ("a = = b", "FILE: no valid TOML: "),
    ],
)
def test_a_bad_file(tmp_path: Path, text: str, expected: str) -> None:
    """What is wrong is named with the file, the entry and the nearest slug."""
    path = tmp_path / "known.toml"
    path.write_text(text)
    with pytest.raises(BaselineError) as caught:
        Baseline.load(str(path)).check(SLUGS)
    assert str(caught.value).replace(str(path), "FILE").startswith(f"baseline {expected}")


@pytest.mark.parametrize("collected", [(), ("billing.has-a-total",)])
def test_a_case_of_ones_own(tmp_path: Path, collected: tuple[str, ...]) -> None:
    """A user's own slug is known, whether its case was collected this time or not."""
    path = tmp_path / "known.toml"
    path.write_text('[known-failures]\n"billing.has-a-total" = "issue 12"\n')
    baseline = Baseline.load(str(path))
    baseline.check((*SLUGS, *collected))
    assert baseline.reason("billing.has-a-total") == "issue 12"


@pytest.mark.parametrize("slug", ["billing.has-no-total", "biling.has-a-total", "resume.mine"])
def test_a_slug_that_nobody_knows(tmp_path: Path, slug: str) -> None:
    """A slug of a known family, or all but one that is known, is no requirement."""
    path = tmp_path / "known.toml"
    path.write_text(f'[known-failures]\n"{slug}" = "issue 12"\n')
    with pytest.raises(BaselineError, match=f"{slug} is no requirement that is known"):
        Baseline.load(str(path)).check((*SLUGS, "billing.has-a-total"))


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that was asked for and is not there is an error."""
    with pytest.raises(BaselineError, match=r"no\.toml: No such file or directory"):
        Baseline.load(str(tmp_path / "no.toml"))
