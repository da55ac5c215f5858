"""Defects of the bytes between the head and the JSON."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.seams import agent, frames
from reference_server.frames import Comment, Frame, Framing, Item
from reference_server.middleware import body
from reference_server.protocol import Event, Token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from reference_server.log import Entry
    from reference_server.parts import Parts

LARGE = 16 * 1024


def _framed(parts: Parts, framing: Framing) -> Parts:
    return replace(parts, framing=framing)


@defect("latin-1", "framing.utf-8", "Text with characters of Latin-1 is sent in Latin-1.")
def latin_1(parts: Parts) -> Parts:
    class Latin1(Framing):
        def encode(self, text: str) -> bytes:
            return b"".join(
                character.encode("latin-1" if "\xa0" <= character <= "\xff" else "utf-8")
                for character in text
            )

    return _framed(parts, Latin1())


@defect(
    "surrogates-encoded",
    "framing.utf-8",
    "A character beyond U+FFFF is sent as two surrogates of three bytes each (CESU-8).",
)
def surrogates_encoded(parts: Parts) -> Parts:
    class Cesu8(Framing):
        def encode(self, text: str) -> bytes:
            units = text.encode("utf-16-le", "surrogatepass")
            pairs = (units[at : at + 2] for at in range(0, len(units), 2))
            return "".join(chr(int.from_bytes(unit, "little")) for unit in pairs).encode(
                "utf-8", "surrogatepass"
            )

    return _framed(parts, Cesu8())


@defect("byte-order-mark", "framing.no-bom", "The body starts with a byte-order mark.")
def byte_order_mark(parts: Parts) -> Parts:
    def make() -> Callable[[bytes, bool], Iterable[bytes]]:
        begun = False

        def change(piece: bytes, last: bool) -> Iterator[bytes]:
            nonlocal begun
            yield piece if begun else b"\xef\xbb\xbf" + piece
            begun = True

        return change

    return parts.behind(body(make))


@defect(
    "last-blank-line-missing",
    "framing.complete-blocks",
    "The blank line behind the terminal is missing.",
)
def last_blank_line_missing(parts: Parts) -> Parts:
    class NoLastBlank(Framing):
        def write(self, item: Item) -> bytes:
            written = super().write(item)
            last = isinstance(item, Frame) and item.event == "done"
            return written.removesuffix(b"\n") if last else written

    return _framed(parts, NoLastBlank())


@defect(
    "rest-behind-terminal",
    "framing.complete-blocks",
    "Behind the terminal's block stands the beginning of another, without its blank line.",
)
def rest_behind_terminal(parts: Parts) -> Parts:
    class Rest(Framing):
        def write(self, item: Item) -> bytes:
            written = super().write(item)
            last = isinstance(item, Frame) and item.event == "done"
            return written + b"event: token\n" if last else written

    return _framed(parts, Rest())


@defect(
    "unlocked-heartbeats",
    "framing.no-interleaving",
    "Heartbeats are written into the middle of events above 16 KiB.",
)
def unlocked_heartbeats(parts: Parts) -> Parts:
    class Unlocked(Framing):
        def write(self, item: Item) -> bytes:
            written = super().write(item)
            if len(written) < LARGE:
                return written
            return written[:LARGE] + super().write(Comment("hb")) + written[LARGE:]

    return _framed(parts, Unlocked())


@defect(
    "event-within-heartbeat",
    "framing.no-interleaving",
    "Events above 16 KiB are written into the middle of a heartbeat's line.",
)
def event_within_heartbeat(parts: Parts) -> Parts:
    class Unlocked(Framing):
        def write(self, item: Item) -> bytes:
            written = super().write(item)
            if len(written) < LARGE:
                return written
            beat = super().write(Comment("hb"))
            return beat[:2] + written + beat[2:]

    return _framed(parts, Unlocked())


def _more_lines(parts: Parts, change: Callable[[Frame, list[str]], list[str]]) -> Parts:
    class MoreLines(Framing):
        def lines(self, frame: Frame) -> list[str]:
            return change(frame, super().lines(frame))

    return _framed(parts, MoreLines())


@defect("type-field", "framing.known-fields", "Blocks have a field `type`.")
def type_field(parts: Parts) -> Parts:
    return _more_lines(parts, lambda frame, lines: [*lines, f"type: {frame.event}"])


@defect("field-case", "framing.field-case", "Blocks say `Event:` beside `event:`.")
def field_case(parts: Parts) -> Parts:
    return _more_lines(parts, lambda frame, lines: [f"Event: {frame.event}", *lines])


@defect("id-in-capitals", "framing.field-case", "Blocks say `ID:` beside `id:`.")
def id_in_capitals(parts: Parts) -> Parts:
    return _more_lines(parts, lambda frame, lines: [*lines, f"ID: {frame.id}"])


def _retry(parts: Parts, value: str) -> Parts:
    class Retry(Framing):
        def field(self, name: str, text: str) -> str:
            return super().field(name, value if name == "retry" else text)

    return _framed(parts, Retry())


@defect("retry-with-unit", "framing.retry-digits", "`retry` is `1.5s`.")
def retry_with_unit(parts: Parts) -> Parts:
    return _retry(parts, "1.5s")


@defect("retry-negative", "framing.retry-digits", "`retry` is `-5`.")
def retry_negative(parts: Parts) -> Parts:
    return _retry(parts, "-5")


@defect("retry-zero", "framing.retry-sane", "`retry` is 0.")
def retry_zero(parts: Parts) -> Parts:
    return _retry(parts, "0")


@defect("retry-of-hours", "framing.retry-sane", "`retry` is two hours.")
def retry_of_hours(parts: Parts) -> Parts:
    return _retry(parts, "7200000")


@defect(
    "id-with-nul",
    "framing.id-without-nul",
    "Blocks have an `id` with NUL, which clients ignore, before the right one.",
)
def id_with_nul(parts: Parts) -> Parts:
    return _more_lines(parts, lambda frame, lines: [f"id: {frame.id}\0", *lines])


@defect(
    "id-of-nul",
    "framing.id-without-nul",
    "The terminal's block has, before the right `id`, one that begins with NUL.",
)
def id_of_nul(parts: Parts) -> Parts:
    return _more_lines(
        parts,
        lambda frame, lines: ["id: \0", *lines] if frame.event == "done" else lines,
    )


def _block_before(parts: Parts, kind: str, block: bytes) -> Parts:
    class BlockBefore(Framing):
        def write(self, item: Item) -> bytes:
            written = super().write(item)
            return block + written if isinstance(item, Frame) and item.event == kind else written

    return _framed(parts, BlockBefore())


@defect("event-without-data", "framing.no-dataless-events", "There is a block with `event` only.")
def event_without_data(parts: Parts) -> Parts:
    return _block_before(parts, "creation", b"event: creation\n\n")


@defect("retry-alone", "framing.retry-not-alone", "`retry` stands in a block of its own.")
def retry_alone(parts: Parts) -> Parts:
    class Alone(Framing):
        def write(self, item: Item) -> bytes:
            if isinstance(item, Comment) or item.retry is None:
                return super().write(item)
            alone = self.encode(self.field("retry", str(item.retry)) + self.end * 2)
            return alone + super().write(replace(item, retry=None))

    return _framed(parts, Alone())


@defect("empty-data", "framing.no-empty-data", "There is an event whose data is empty.")
def empty_data(parts: Parts) -> Parts:
    return _block_before(parts, "creation", b"event: creation\ndata:\n\n")


@defect(
    "crlf-line-ends",
    "framing.line-ends",
    "Lines end in CRLF, which this dialect's client does not split on.",
    dialect="agent-event-stream",
)
def crlf(parts: Parts) -> Parts:
    class Crlf(Framing):
        end = "\r\n"

    return _framed(parts, Crlf())


@defect(
    "cr-line-ends",
    "framing.line-ends",
    "Lines end in CR, which this dialect's client does not split on.",
    dialect="agent-event-stream",
)
def cr(parts: Parts) -> Parts:
    class Cr(Framing):
        end = "\r"

    return _framed(parts, Cr())


@defect("mixed-line-ends", "framing.line-ends-uniform", "Some blocks end their lines in CRLF.")
def mixed_line_ends(parts: Parts) -> Parts:
    class Mixed(Framing):
        def write(self, item: Item) -> bytes:
            written = super().write(item)
            mixed = isinstance(item, Frame) and item.event in ("progress", "done")
            return written.replace(b"\n", b"\r\n") if mixed else written

    return _framed(parts, Mixed())


def _token_data(parts: Parts, change: Callable[[str], str]) -> Parts:
    def changed(entry: Entry, frame: Frame) -> Iterator[Frame]:
        yield replace(frame, data=change(frame.data)) if entry.type == "token" else frame

    return frames(parts, changed)


class Raw(Framing):
    """Framing that trusts its data."""

    def lines(self, frame: Frame) -> list[str]:
        lines = super().lines(replace(frame, data=""))
        return [f"data: {frame.data}" if line == "data: " else line for line in lines]


@defect("raw-cr", "framing.newlines-in-text", "A CR inside text is written as it is.")
def raw_cr(parts: Parts) -> Parts:
    return _token_data(_framed(parts, Raw()), lambda data: data.replace("\\r", "\r"))


@defect("newlines-normalised", "framing.newlines-in-text", "A CR inside text becomes LF.")
def newlines_normalised(parts: Parts) -> Parts:
    return _token_data(parts, lambda data: data.replace("\\r", "\\n"))


@defect("separators-lost", "framing.unicode-separators", "U+2028, U+2029 and U+0085 are dropped.")
def separators_lost(parts: Parts) -> Parts:
    return _token_data(parts, lambda data: re.sub(r"\\u(0085|2028|2029)", "", data))


@defect("separators-raw", "framing.unicode-separators", "U+2028, U+2029, U+0085 are not escaped.")
def separators_raw(parts: Parts) -> Parts:
    def raw(data: str) -> str:
        return re.sub(r"\\u(0085|2028|2029)", lambda match: chr(int(match[1], 16)), data)

    return _token_data(parts, raw)


@defect("megabyte-line", "framing.bounded-lines", "The large token of `long` is one line of 1 MiB.")
def megabyte_line(parts: Parts) -> Parts:
    async def change(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        async for event in events:
            large = isinstance(event, Token) and len(event.text) > LARGE
            yield Token(text="x" * 2**20) if large else event

    return agent(parts, change, "long")


@defect(
    "heartbeat-as-block",
    "framing.client-agreement",
    "A blank line follows each heartbeat: some clients see an empty event there.",
)
def heartbeat_as_block(parts: Parts) -> Parts:
    class AsBlock(Framing):
        def comment(self, comment: Comment) -> str:
            return super().comment(comment) + self.end

    return _framed(parts, AsBlock())
