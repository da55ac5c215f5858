"""Read requests: what shall be done, for which run, from where on. What is wrong is a Problem."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from reference_server.cursor import Cursor, Cursors, MalformedCursor, is_run_id
from reference_server.log import EventLog, RunState, UnknownRun
from reference_server.problems import Problem
from reference_server.scenario import HEADER, BadScenario, Scenario, parse
from reference_server.scenarios import PARAMETERS

if TYPE_CHECKING:
    from starlette.requests import Request

    from reference_server.settings import Settings

CURSOR_QUERY = ("last_event_id", "lastEventId")


def _well_formed(text: str) -> str:
    """Refuse lone surrogates: JSON can write them, UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it has a lone surrogate, which is no character") from None
    return text


Text = Annotated[str, AfterValidator(_well_formed)]


class Start(BaseModel):
    """The body of a start; fields it does not know are ignored, as a front end may send its own."""

    model_config = ConfigDict(extra="ignore", strict=True)

    message: Text
    on_disconnect: Literal["continue", "cancel"] = "continue"


class Answer(BaseModel):
    """The body that answers an `input_required`."""

    model_config = ConfigDict(extra="ignore", strict=True)

    request_id: Annotated[str, Field(min_length=1)]
    input: Text


Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Order:
    """A start that can be obeyed."""

    message: str
    scenario: Scenario
    key: str | None
    on_disconnect: Literal["continue", "cancel"]


class Intake:
    """Read requests and decide where a stream begins."""

    def __init__(self, settings: Settings, log: EventLog, cursors: Cursors) -> None:
        self.settings = settings
        self.log = log
        self.cursors = cursors

    async def start(self, request: Request) -> Order:
        """Read a start: POST with a body, or GET with `message` and `key` in the query."""
        if request.method == "GET":
            body = Start.model_validate(self._query(request, "message", "key"))
            key: str | None = request.query_params["key"]
        else:
            body = await self._body(request, Start)
            key = request.headers.get("idempotency-key")
        return Order(body.message, self.scenario(request), self.key(key), body.on_disconnect)

    async def answer(self, request: Request) -> Answer:
        """Read an answer to `input_required`."""
        return await self._body(request, Answer)

    def scenario(self, request: Request) -> Scenario:
        """Return the scenario that the header asks for, `complete` without one."""
        header = request.headers.get(HEADER, "complete").encode("latin-1")
        try:
            return parse(header.decode("utf-8", "replace"), PARAMETERS)
        except BadScenario as problem:
            raise Problem(400, f"X-Agentstream-Scenario: {problem}.") from None

    def key(self, key: str | None) -> str | None:
        """Return the idempotency key; an empty one is none."""
        if key and len(key) > 256:
            raise Problem(400, "Idempotency-Key has more than 256 characters.")
        return key or None

    def cursor(self, request: Request) -> Cursor | None:
        """Return the cursor: Last-Event-ID, else the query; None: absent or empty.

        Raises Problem 400 for a malformed one, in the header even beside a valid query.
        """
        headers = request.headers.getlist("last-event-id")
        if len(headers) > 1:
            raise Problem(400, "Last-Event-ID was sent more than once.")
        queries = [request.query_params.get(name, "") for name in CURSOR_QUERY]
        text = next((text for text in [*headers, *queries] if text), None)
        if text is None:
            return None
        try:
            return self.cursors.parse(text)
        except MalformedCursor:
            raise Problem(
                400, "The cursor is malformed: an event's id, <run>/<seq>, was expected."
            ) from None

    def same_run(self, cursor: Cursor | None, run: str) -> None:
        """Refuse a cursor of another run, before anything is looked up."""
        if cursor is not None and cursor.run != run:
            raise Problem(400, "The cursor is of another run.")

    async def known(self, run: str, user: str | None) -> RunState:
        """Return the state of the user's run; None: whoever may read it. Raises Problem 404."""
        try:
            if not is_run_id(run):
                raise UnknownRun(run)
            state = await self.log.state(run)
        except UnknownRun:
            raise Problem(404, "There is no such run.") from None
        if user not in (None, state.owner):
            raise Problem(404, "There is no such run.")
        return state

    async def place(self, run: str, after: int, user: str | None) -> int | None:
        """Return behind which event a stream begins; None: it is over and all is known (204).

        Raises Problem 404, 410 for what is gone, 409 for a cursor ahead of the run.
        """
        state = await self.known(run, user)
        if after > state.last and not (state.closed or state.expired) and self.log.lag:
            await self.log.wait(run, after - 1, self.log.lag)
            state = await self.known(run, user)
        if state.expired:
            raise Problem(410, "The run is over and its events are no longer kept.")
        if after > state.last:
            raise Problem(409, "The cursor is ahead of the run.")
        if after < state.first - 1:
            raise Problem(410, "The events behind this cursor are no longer kept.")
        return None if state.closed and after == state.last else after

    def _query(self, request: Request, *names: str) -> dict[str, Any]:
        missing = [name for name in names if not request.query_params.get(name)]
        if missing:
            raise Problem(422, f"{' and '.join(missing)} must be given in the query.")
        allowed = {name: request.query_params[name] for name in names}
        if request.query_params.get("on_disconnect") == "cancel":
            allowed["on_disconnect"] = "cancel"
        return allowed

    async def _body(self, request: Request, model: type[Body]) -> Body:
        raw = bytearray()
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > self.settings.max_body:
                raise Problem(413, f"The body is larger than {self.settings.max_body} bytes.")
        try:
            value = json.loads(raw.decode())
        except (ValueError, RecursionError):
            raise Problem(400, "The body is not JSON.") from None
        try:
            return model.model_validate(value)
        except ValidationError as invalid:
            first = invalid.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise Problem(422, f"{where}: {first['msg']}.") from None
