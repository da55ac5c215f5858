"""Whether a run's script reached the LLM double: without that, nothing about it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.dialects.payload import parse_json
from pytest_agentstream.recording import EndKind
from pytest_agentstream.tolerances import CALLED_WITHIN
from pytest_agentstream.verdicts import ControlBroken, NotTested

if TYPE_CHECKING:
    from pytest_agentstream.controls import Control
    from pytest_agentstream.doubles import LlmDouble
    from pytest_agentstream.recording import Recording, Run

NAME = "double"
"""What stands for the scenario where not one scenario's control is broken but the double's."""

NOT_IMPLEMENTED = 501
TOLD = (
    "the server was started with {}, and called neither; where it takes its base URL from "
    'elsewhere: [tool.agentstream.env] NAME = "{{double}}/v1"'
)
MOST = 300
"""Characters of what a server says of a scenario that it cannot play."""


async def was_played(
    double: LlmDouble | None, control: Control, run: Run, *, told: bool = False
) -> bool:
    """Tell whether the double played the script of a run, which may have been refused before.

    `told` says that the suite started the server, and told it where the double is.

    Raises `ControlBroken` where the server answered without asking the double, and `NotTested`
    where it cannot play the scenario, or asks for something in which no script is played.
    """
    if double is None or control.tag is None:
        return False
    try:
        await double.wait_for(control.tag, seconds=CALLED_WITHIN)
    except TimeoutError:
        if run.first.status == NOT_IMPLEMENTED:
            raise NotTested(
                f"the server answered {NOT_IMPLEMENTED} to `{run.scenario}`: {_said(run.first)}"
            ) from None
        refused = run.first.status is not None and 400 <= run.first.status < 500
        if not refused and run.last.end.kind is not EndKind.STOPPED:
            _stop_if_over(double, control, run)
            raise _unasked(double, control.tag, run, told) from None
        return False
    return True


def _stop_if_over(double: LlmDouble, control: Control, run: Run) -> None:
    """Raise `NotTested` where a run's own deadline ended it, before a busy server had asked."""
    deadline = control.scenario.deadline
    lasted = sum(exchange.end.at for exchange in run.exchanges)
    if double.calls and deadline is not None and lasted >= deadline:
        raise NotTested(
            f"`{run.scenario}` was over after {lasted:.2f} s, by its deadline of {deadline:g} s, "
            "before the server had asked its LLM",
            "declare a longer deadline, or slow down: --agentstream-concurrency 1",
        )


def _unasked(double: LlmDouble, tag: str, run: Run, told: bool) -> ControlBroken | NotTested:
    if any(call.tag == tag for call in double.calls):
        return NotTested(
            f"in `{run.scenario}` the server's calls of its LLM don't stream, or demand a form, so "
            "that the double played no script",
            "have the server ask its LLM with stream = true",
        )
    expected = f"a call of the LLM double at {double.origin} with the script of the run"
    if double.calls:
        return ControlBroken(
            NAME,
            expected=expected,
            actual=f"{len(double.calls)} calls, none of them with that script",
            recording=run.first,
            option="have the server pass on what the user says, or map where that stands: "
            '[tool.agentstream.scenarios] complete = { json = { … = "{prompt}" } }',
        )
    wanted = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL")
    known = (f"{name}={double.environment[name]}" for name in wanted if name in double.environment)
    return ControlBroken(
        NAME,
        expected=expected,
        actual="none at all: the server asks another LLM, or none",
        recording=run.first,
        option=(TOLD if told else "start the server with {}").format(" or ".join(known)),
    )


def _said(answer: Recording) -> str:
    """What a refusal says, as far as a sentence goes."""
    value = parse_json(answer.body[:65536].decode("utf-8", "replace")).value
    detail = value.get("detail") if isinstance(value, dict) else None
    return detail[:MOST] if isinstance(detail, str) else "it does not say why"
