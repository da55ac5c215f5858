"""Requests to refuse, or to answer once: bad bodies, no credentials, unknown runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_agentstream.probing import probe
from pytest_agentstream.verdicts import ControlBroken, NotApplicable, NotTested
from pytest_agentstream.watching import Watch

if TYPE_CHECKING:
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.target import Target
    from pytest_agentstream.wire import Block

JSON = "application/json"
BODIES: tuple[tuple[str, str, bytes], ...] = (
    ("no body", JSON, b""),
    ("text that is not JSON", JSON, b"hello"),
    ("JSON that stops in its middle", JSON, b'{"message": "hel'),
    ("an array", JSON, b"[]"),
    ("null", JSON, b"null"),
    ("a number", JSON, b"42"),
    ("an empty object", JSON, b"{}"),
    ("bytes that are not UTF-8", JSON, b'{"message": "\xff\xfe"}'),
    ("a lone surrogate", JSON, b'{"message": "\\ud800"}'),
    ("objects where text belongs", JSON, b'{"message": {"a": [{"b": {}}]}, "messages": {"0": 1}}'),
    ("a thousand nested arrays", JSON, b'{"message": ' + b"[" * 1000 + b"]" * 1000 + b"}"),
    ("a number of a thousand digits", JSON, b'{"message": ' + b"9" * 1000 + b"}"),
    ("another content type", "text/plain", b"message=hello"),
)
"""Bodies that no client sends on purpose, frozen. What a server makes of one is its own affair, as
long as it neither fails nor hangs."""

SENT_CREDENTIALS = frozenset({"authorization", "cookie", "x-api-key", "api-key"})
UNKNOWN_RUN = "Zq3x0Yb9Lr7Kd2Vn5Tm8Wc1P"


@dataclass(frozen=True)
class Asked:
    """What was sent, in words, and the answer."""

    what: str
    recording: Recording


def first_event(block: Block) -> Watch | None:
    """Stop reading at the first event: what a tolerant server goes on to say is not the point."""
    return Watch(0, "one event was enough") if block.event is not None else None


@probe(consent="fuzz", runs=0)
async def bad_bodies(client: Driver, dialect: Dialect, complete_run: Observation) -> list[Asked]:
    """The start endpoint, asked with bodies that make no sense."""
    method = complete_run.first.request.method
    if method == "GET":
        raise NotApplicable("runs are started with GET here, which has no body")
    answers = []
    for what, media, body in BODIES:
        headers = {"Content-Type": media}
        options = {"headers": headers, "body": body, "on_block": first_event}
        answers.append(Asked(what, await client.request(method, "", **options)))
        if answers[-1].recording.is_stream:
            client.count()  # a tolerant server has started a run on it
    return answers


def credentials_of(target: Target) -> list[str]:
    """The names of the headers that carry the configured credentials."""
    found = [name for name in target.headers if name.lower() in SENT_CREDENTIALS]
    if not found:
        raise NotTested(
            "no credentials are configured, so leaving them out proves nothing",
            'configure them: headers = { Authorization = "Bearer {env:AGENT_TOKEN}" }',
        )
    return found


@probe(consent="start", scenarios=["complete"], runs=0)
async def without_credentials(client: Driver, target: Target) -> list[Asked]:
    """A start without credentials, and one with wrong ones."""
    names = credentials_of(target)
    control = client.control("complete")
    answers = []
    for what, value in (("no credentials", None), ("wrong credentials", "Bearer not-a-real-token")):
        headers: dict[str, str | None] = dict.fromkeys(names, value)
        recording = await client.start(control, headers=headers, on_block=first_event)
        answers.append(Asked(what, recording))
    return answers


@probe(consent="read", runs=0)
async def unknown_run(client: Driver, dialect: Dialect, complete_run: Observation) -> Asked:
    """A run that does not exist, asked for where runs are resumed."""
    path = dialect.profile.resume.path
    if path is None or "{run}" not in path:
        raise NotApplicable(f"the dialect {dialect.name} has no address for a run")
    answer = await client.request(
        dialect.profile.resume.method, path.replace("{run}", UNKNOWN_RUN), on_block=first_event
    )
    return Asked("a run that does not exist", answer)


@probe(consent="read", runs=0)
async def wrong_method(client: Driver) -> Asked:
    """The start endpoint, asked with PATCH, which starts nothing anywhere."""
    return Asked("PATCH", await client.request("PATCH", "", on_block=first_event))


@probe(consent="start", scenarios=["complete"], runs=0)
async def duplicate_start(client: Driver, dialect: Dialect, complete_run: Observation) -> Asked:
    """The start of the finished `complete` run again, with the same idempotency key."""
    name = dialect.profile.start.idempotency_header
    sent = {key.lower(): value for key, value in complete_run.first.request.headers}
    if name is None or name.lower() not in sent:
        raise NotApplicable(f"the dialect {dialect.name} has no idempotency key")
    headers = {name: sent[name.lower()]}
    control = client.control("complete")
    answer = await client.start(control, joins=True, headers=headers, on_block=first_event)
    return Asked("the same start", answer)


@probe(scenarios=["overloaded"], runs=0)
async def overloaded(client: Driver) -> Asked:
    """A start that the server refuses because it is asked too much."""
    control = client.control("overloaded")
    recording = await client.start(control, on_block=first_event)
    if recording.status not in {429, 503}:
        raise ControlBroken(
            "overloaded",
            expected="a refusal with 429 or 503",
            actual=f"status {recording.status}",
            recording=recording,
        )
    return Asked("an overloaded server", recording)


@probe(scenarios=["complete"])
async def same_connection(client: Driver, target: Target) -> tuple[Observation, Recording]:
    """A run, as a browser's page starts it, and a request behind it on the same connection."""
    headers = {} if target.cors_origin is None else {"Origin": target.cors_origin}
    async with client.keeping_alive() as kept:
        run = await kept.run("complete", headers=headers)
        return run, await kept.request("PATCH", "", headers=headers)


@dataclass(frozen=True)
class Cors:
    """What a browser's page of another origin sees: the preflight, a stream, and refusals."""

    origin: str
    preflight: Recording
    stream: Observation
    refusals: tuple[Asked, ...]


@probe(consent="read", runs=0)
async def cors(
    client: Driver,
    target: Target,
    dialect: Dialect,
    same_connection: tuple[Observation, Recording],
) -> Cors:
    """Requests as a browser makes them for a page of the declared origin."""
    stream, refused = same_connection
    origin = target.cors_origin
    if origin is None:
        raise NotTested(
            "no page of another origin is declared",
            'declare one: cors_origin = "https://app.example"',
        )
    headers = {"Origin": origin}
    asking = {
        **headers,
        "Access-Control-Request-Method": dialect.profile.start.method,
        "Access-Control-Request-Headers": "authorization,content-type,last-event-id",
    }
    preflight = await client.request("OPTIONS", "", headers=asking)
    refusals = [Asked("PATCH", refused)]
    ids = [cursor.text for _, cursor in stream.identified]
    if ids and dialect.profile.resume.kind != "none":
        options = {"headers": headers, **client.replaying}
        end = await client.resume(stream, ids[-1], **options)
        refusals.append(Asked("a resume behind the terminal", end))
        refusals.append(Asked("a bad cursor", await client.resume(stream, "no cursor", **options)))
    return Cors(origin, preflight, stream, tuple(refusals))
