"""Any cuts, anywhere, with any seed: nothing is lost, nothing comes twice, in any run.

`AGENTSTREAM_SOAK=1` tries 500 examples instead of 60.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from pytest_agentstream.faults import Cut

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.conftest import Journey

    Travel = Callable[..., Journey]

EXAMPLES = 500 if os.environ.get("AGENTSTREAM_SOAK") else 60
ATTEMPTS = 20
"""More than there are cuts, so that even cuts that are all in vain don't end the run."""

SCENARIOS = (
    "complete",
    "echo",
    "tools; seconds=0",
    "long; events=60",  # with one event of 48 KiB
    "pauses; seconds=0.003; count=30",  # most cuts meet the live tail
)
DEEP = 50_000
"""Bytes; from an early event on, this is anywhere within the one of 48 KiB, and behind it."""

HOWS = st.sampled_from(["fin", "rst"])
INTO = st.integers(0, 130) | st.integers(0, DEEP)
CUTS = st.one_of(
    st.builds(Cut, after_event=st.integers(0, 12), into_next=INTO, how=HOWS),
    st.builds(Cut, after_bytes=st.integers(1, 2500), how=HOWS),
    st.builds(Cut, after_body=st.integers(0, 2000), how=HOWS),
)


@given(
    scenario=st.sampled_from(SCENARIOS),
    prompt=st.text(min_size=20, max_size=60, alphabet=st.characters(exclude_categories=["Cs"])),
    cuts=st.lists(CUTS, min_size=1, max_size=12),
    seed=st.integers(0, 2**16),
)
@example(scenario="echo", prompt="\r\n\0\u2028\ufeff\x85" * 5, cuts=[Cut(after_event=2)], seed=0)
@example(  # a FIN within the line that says how long the next chunk is
    scenario="long; events=60", prompt="", cuts=[Cut(after_bytes=414)] * 2, seed=0
)
@example(  # six cuts in the middle of the event of 48 KiB, which is sent anew each time
    scenario="long; events=60",
    prompt="",
    cuts=[Cut(after_event=12, into_next=DEEP // 2), *[Cut(after_event=0, into_next=DEEP // 2)] * 5],
    seed=0,
)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nothing_is_lost_or_comes_twice(
    travel: Travel, hurried: str, scenario: str, prompt: str, cuts: list[Cut], seed: int
) -> None:
    """A run that is cut anywhere shows exactly the events that it has when read back whole."""
    seen = travel(
        *([cut] for cut in cuts),
        url=hurried,
        scenario=scenario,
        prompt=prompt,
        seed=seed,
        attempts=ATTEMPTS,
    )
    lost = [one for one in seen.read_back if one not in seen.identities]
    twice = len(seen.identities) - len(set(seen.identities))
    assert (len(lost), twice) == (0, 0), f"{seen.described}: {seen.ends} {seen.run.synthetic}"
    assert seen.identities == seen.read_back, seen.described
    assert seen.run.synthetic == ""
    if scenario == "echo":
        assert seen.text == prompt
    event(f"{len(seen.ends) - 1} reconnects")
