"""The profile of a dialect: twelve groups of fields, as they stand in its TOML file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat

from pytest_agentstream.requirements import Level  # noqa: TC001 - pydantic resolves it


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Start(_Group):
    """How a run is started, where the configuration maps nothing: a request with templates.

    `disconnect_cancels` are fields of the JSON body with which a run is cancelled when its reader
    goes, where that is not so anyway.
    """

    method: Literal["GET", "POST"] = "POST"
    json_body: Any = Field(default=None, alias="json")
    headers: dict[str, str] = {}
    prompt: str = "Hello"
    idempotency_header: str | None = None
    disconnect_cancels: dict[str, Any] = {}


class Response(_Group):
    """What the head of a good answer says.

    `run_header` names the run. `log_header` says what keeps it: `volatile` or `durable`, then
    parameters `retention` and `lease` in seconds and `run-bytes`.
    """

    status: tuple[int, ...] = (200,)
    content_type: str = "text/event-stream"
    required_headers: tuple[str, ...] = ()
    run_header: str | None = None
    log_header: str | None = None


class Framing(_Group):
    """What the dialect's own clients accept of the wire's freedoms.

    `separators` says whether U+2028, U+2029 and U+0085 must be escaped in payloads.
    """

    event_line: Literal["required", "forbidden", "equals-type", "optional"] = "optional"
    line_ends: tuple[Literal["LF", "CRLF", "CR"], ...] = ("LF", "CRLF", "CR")
    empty_data: Literal["forbidden", "priming", "allowed"] = "forbidden"
    separators: Literal["any", "escaped"] = "any"


class Payload(_Group):
    """What stands in `data`: JSON, JSON-RPC or text, and the sentinels that are none of these."""

    kind: Literal["json", "jsonrpc", "text"] = "json"
    sentinels: tuple[str, ...] = ()


class Selector(_Group):
    """One place where the event's type may be said; the first that yields one counts.

    Each selector has one of these. `key_present` names the type after the first of its keys that
    the payload has, with a value other than null and false.
    """

    sse_event: bool = False
    json_path: str | None = None
    key_present: tuple[str, ...] = ()
    constant: str | None = None


class FieldRule(_Group):
    """What a field's value must be, where its type alone does not say enough."""

    type: str
    enum: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None


class EventType(_Group):
    """One event type, by name or glob: the fields that it must and may have, and its role.

    A field's type is one of `string integer number boolean object array null any`, with `|`
    between alternatives; `enum`, `minimum` and `maximum` narrow it. `schema_file` names a JSON
    Schema beside the TOML instead; `file.json#/name` is one part of it. `text` is the path of the
    text that a user is shown, so that the texts of a run, put together, are the answer.
    """

    role: Literal["content", "error", "terminal", "heartbeat", "input"] = "content"
    ephemeral: bool = False
    text: str | None = None
    required: dict[str, str | FieldRule] = {}
    optional: dict[str, str | FieldRule] = {}
    extra: Literal["allow", "forbid"] = "allow"
    null_optionals: Literal["allow", "forbid"] = "allow"
    schema_file: str | None = None


class Terminal(_Group):
    """One way in which a run ends: which event (a type glob or a sentinel), and what it means.

    `where` maps paths to values (a list: one of them); `after` asks for an earlier event of that
    type. The first rule that matches counts.
    """

    event: str
    outcome: Literal["success", "failure", "interrupt", "cancelled"]
    where: dict[str, Any] = {}
    after: str | None = None


class Incomplete(_Group):
    """Where a run that ended well says that its answer is not whole: `event` with these values.

    `where` maps paths to values, as in a terminal.
    """

    event: str
    where: dict[str, Any] = {}


class Progress(_Group):
    """Progress that an event reports: `value` never goes back within one `key`.

    On success it has reached `complete`, where that is given.
    """

    event: str
    value: str
    key: str | None = None
    complete: float | None = None


class Order(_Group):
    """What may come first, what ends a run, and what the dialect allows behind the end.

    `counts` maps a field of a terminal payload to the event type that it counts. `constant` are
    paths whose values are the same in every event that has them.
    """

    first: tuple[str, ...] = ()
    terminal: tuple[Terminal, ...] = ()
    after_terminal: tuple[str, ...] = ()
    counts: dict[str, str] = {}
    incomplete: tuple[Incomplete, ...] = ()
    progress: Progress | None = None
    sequence_path: str | None = None
    constant: tuple[str, ...] = ()


class Span(_Group):
    """Something that opens, goes on and closes; `key` is the field that tells its spans apart.

    `open_where` maps paths to values, as in a terminal. `must_close` are the outcomes before which
    it must be closed. `once`: a key opens one span in a run, and none again once that is closed.
    """

    name: str
    open: str
    open_where: dict[str, Any] = {}
    continues: tuple[str, ...] = ()
    close: tuple[str, ...] = ()
    key: str | None = None
    is_tool: bool = False
    once: bool = False
    must_close: tuple[Literal["success", "failure", "interrupt", "cancelled"], ...] = ("success",)


class Errors(_Group):
    """Where an in-stream error says what, and which HTTP answers may be tried again."""

    event: str | None = None
    message_path: str | None = None
    retryable_path: str | None = None
    retry_after_ms_path: str | None = None
    retryable_statuses: tuple[int, ...] = (408, 429, 500, 502, 503, 504)
    hint_headers: tuple[str, ...] = ("Retry-After",)
    http_message_path: str | None = None


class Cursor(_Group):
    """Where an event's cursor stands and how cursors are ordered.

    `pattern` has the named groups `seq` and, where cursors name their run, `run`.
    """

    source: Literal["sse-id", "json-path", "none"] = "none"
    json_path: str | None = None
    order: Literal["integer", "opaque"] = "opaque"
    pattern: str | None = None
    contiguous: bool = False
    first: int | None = None


class Resume(_Group):
    """How a run is joined again: what carries the cursor, and to which path it is sent.

    `path` is a template over `{run}`, `{location}` and captured values, on the target's origin;
    without it the start URL is asked again. `query` names the parameter that carries the cursor,
    instead of Last-Event-ID or beside it. `cancel` and `answer` are the requests that end a run and
    that give it what it waits for, as `METHOD /path`; `answer_json` is its body, a template
    over the fields of the event that asked, and `{prompt}`.
    """

    kind: Literal["last-event-id", "query", "body", "replay", "snapshot", "none"] = "none"
    method: Literal["GET", "POST"] = "GET"
    path: str | None = None
    query: str | None = None
    disconnect: Literal["continues", "cancels", "unspecified"] = "unspecified"
    readers: Literal["one", "many"] = "one"
    cancel: str | None = None
    answer: str | None = None
    answer_json: Any = None


class Heartbeat(_Group):
    """How silence is filled: by comments or events, `interval` seconds apart; `slack` is added."""

    kind: Literal["comment", "event", "none"] = "none"
    interval: PositiveFloat | None = None
    promised: bool = False
    slack: NonNegativeFloat = 0.0


class Habits(_Group):
    """What the dialect's own clients make of an end without a terminal, named where they are known.

    `clean_end` is a body that ends properly, `cut` one that does not.
    """

    clean_end: str = "every client that takes the end of the body for the end of the answer"
    cut: str = "clients that retry on a network error: they start the whole run again"


class Override(_Group):
    """What a dialect says of a requirement: that it has another level, or does not apply."""

    level: Level | None = None
    applies: bool = True
    why: str


class Detect(_Group):
    """By what a first answer is known to be this dialect, when the user names none.

    `header` is a response header; with it, nothing else is asked for but one of `events`, if there
    are any. Without it, either at least one of `events` is named in an event line (`only_declared`:
    and no type that is not declared), or there are no event lines and every JSON payload has one of
    `keys`. `without` are keys that no payload may have.
    """

    header: str | None = None
    events: tuple[str, ...] = ()
    only_declared: bool = False
    keys: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


class Profile(_Group):
    """A dialect as declared: see docs/dialects.md for every field."""

    name: str
    title: str = ""
    verified_against: str = ""
    verified_on: str = ""
    source: str = ""
    clients: str = ""
    start: Start = Start()
    response: Response = Response()
    framing: Framing = Framing()
    payload: Payload = Payload()
    type_from: tuple[Selector, ...]
    events: dict[str, EventType]
    unknown: Literal["ignore", "forbid"] | tuple[str, ...] = "ignore"
    order: Order = Order()
    spans: tuple[Span, ...] = ()
    errors: Errors = Errors()
    cursor: Cursor = Cursor()
    resume: Resume = Resume()
    heartbeat: Heartbeat = Heartbeat()
    habits: Habits = Habits()
    requirements: dict[str, Override] = {}
    detect: Detect = Detect()
