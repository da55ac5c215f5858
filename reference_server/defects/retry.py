"""Defects of retrying: the class of a failure, and what a repeated start does."""

@defect("retry-class-wrong", "retry.class-in-stream", "A retryable failure is called final.")
def retry_class_wrong(parts: Parts) -> Parts:
    def change(entry: Entry) -> Iterator[Entry]:
        wrong = entry.type == "error" and entry.payload["retryable"]
        yield with_payload(entry, retryable=False) if wrong else entry

    return entries(parts, change)


@defect(
    "restarts-when-finished",
    "retry.after-terminal",
    "The start request with the cursor of a finished run starts a run.",
)
def restarts_when_finished(parts: Parts) -> Parts:
    finished: set[bytes] = set()

    def middleware(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            async def noted(message: Message) -> None:
                block = message.get("body", b"")
                if block.startswith(b"event: done"):
                    finished.update(re.findall(rb"^id: (.*)$", block, re.MULTILINE))
                await send(message)

            headers = dict(scope.get("headers", ()))
            cursor = headers.get(b"last-event-id", b"")
            if cursor in finished and scope["path"] in ("/v1/runs", "/v1/stream"):
                del headers[b"last-event-id"]
                scope = {**scope, "headers": list(headers.items())}
            await app(scope, receive, noted)

        return wrapped

    return parts.behind(middleware)


@defect("key-ignored", "retry.duplicate-start", "The same idempotency key starts a second run.")
def key_ignored(parts: Parts) -> Parts:
    class Forgetful(Intake):
        def key(self, key: str | None) -> str | None:
            return None

    return replace(parts, intake=Forgetful)


@defect(
    "key-forgotten-at-the-end",
    "retry.duplicate-start",
    "The idempotency key of a run that is over starts a second one.",
)
def key_forgotten_at_the_end(parts: Parts) -> Parts:
    class Forgetful(Registry):
        async def start(
            self,
            message: str,
            scenario: Scenario,
            *,
            owner: str,
            key: str | None,
            grace: float | None,
        ) -> str:
            run = await super().start(message, scenario, owner=owner, key=key, grace=grace)
            if self.live(run) is not None:
                return run
            return await super().start(message, scenario, owner=owner, key=None, grace=grace)

    return replace(parts, registry=Forgetful)


@defect(
    "key-unknown-while-live",
    "retry.duplicate-start",
    "The idempotency key of a run that is going on starts a second one beside it.",
)
def key_unknown_while_live(parts: Parts) -> Parts:
    class Late(Registry):
        async def start(
            self,
            message: str,
            scenario: Scenario,
            *,
            owner: str,
            key: str | None,
            grace: float | None,
        ) -> str:
            live = {*self._live}
            run = await super().start(message, scenario, owner=owner, key=key, grace=grace)
            if run not in live:
                return run
            return await super().start(message, scenario, owner=owner, key=None, grace=grace)

    return replace(parts, registry=Late)
