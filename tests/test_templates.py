"""Templates: what is filled in, what stands for itself, and what an error says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentstream.templates import (
    TemplateError,
    environment_names,
    names,
    render,
    render_url,
)

VARIABLES = {"thread": "t-1", "uuid": "u", "prompt": "Say {thread} {{x}}", "location": "/r/1?a=b"}
ENV = {"TOKEN": "s3cret", "EMPTY": ""}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{thread}", "t-1"),
        ("a{thread}b{uuid}", "at-1bu"),
        ("Bearer {env:TOKEN}", "Bearer s3cret"),
        ("{env:EMPTY}", ""),
        ("{{thread}}", "{thread}"),
        ("{{env:TOKEN}}", "{env:TOKEN}"),
        ("{{nobody}}", "{nobody}"),
        ("{prompt}", "Say {thread} {{x}}"),
        ('{"a": 1}', '{"a": 1}'),
        ('{"a": {"b": {}}}', '{"a": {"b": {}}}'),
        ('{"m": "{thread}"}', '{"m": "t-1"}'),
        ("{ thread }", "{ thread }"),
        ("{}", "{}"),
        ("{1}", "{1}"),
        ("{env:}", "{env:}"),
        ("{", "{"),
        ("}}", "}}"),
    ],
)
def test_texts(template: str, expected: str) -> None:
    """A name in braces is filled in once, doubled braces escape it, other braces are themselves."""
    assert render(template, VARIABLES, ENV) == expected


def test_deep_in_json() -> None:
    """Texts anywhere in a JSON value are rendered, keys too; what is no text stays as it is."""
    value = {"{uuid}": [{"a": "{thread}"}, 1, 2.5, True, None, ["{env:TOKEN}"]]}
    expected = {"u": [{"a": "t-1"}, 1, 2.5, True, None, ["s3cret"]]}
    assert render(value, VARIABLES, ENV) == expected


def test_values_in_a_url_are_encoded() -> None:
    """What is filled into a URL is percent-encoded, so that it can't change the path or query."""
    variables = {"thread": "a/../b?c=d&e#f ü"}
    url = render_url("/threads/{thread}/runs?x={thread}", variables, ENV)
    encoded = "a%2F..%2Fb%3Fc%3Dd%26e%23f%20%C3%BC"
    assert url == f"/threads/{encoded}/runs?x={encoded}"


def test_location_is_a_url_itself() -> None:
    """`{location}` is a URL and is filled in as it is."""
    assert render_url("{location}", VARIABLES, ENV) == "/r/1?a=b"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{thraed}", ["{thraed}", "did you mean {thread}?", "{{thraed}}"]),
        ("{zzz}", ["{zzz}", "{location}, {prompt}, {thread}, {uuid}"]),
        ("{env:NOPE}", ["environment variable NOPE", "not set"]),
    ],
)
def test_errors_say_what_is_known(template: str, words: list[str]) -> None:
    """An unknown name is named with the nearest known one, a missing variable with its name."""
    for rendering in (render, render_url):
        with pytest.raises(TemplateError) as caught:
            rendering(template, VARIABLES, ENV)
        for word in words:
            assert word in str(caught.value)


def test_errors_never_show_values() -> None:
    """An error names variables, and never says what one holds."""
    with pytest.raises(TemplateError) as caught:
        render("{env:TOKEN} {nobody}", VARIABLES, ENV)
    assert "s3cret" not in str(caught.value)


def test_names_in_use() -> None:
    """What a value uses can be listed, so that secrets are known before anything is sent."""
    value = {"a": ["{env:TOKEN} {thread}", {"b": "{{env:NOT}} {env:OTHER}"}]}
    assert names(value) == {"env:TOKEN", "thread", "env:OTHER"}
    assert environment_names(value) == {"TOKEN", "OTHER"}


@given(st.text())
def test_texts_without_templates_stay(text: str) -> None:
    """A text in which nothing is named is never changed, whatever its braces."""
    if not names(text) and "{{" not in text:
        assert render(text, {}, {}) == text


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True), st.text())
def test_any_value_is_filled_in_verbatim(name: str, value: str) -> None:
    """What a variable holds arrives as it is, braces included."""
    assert render(f"<{{{name}}}>", {name: value}, {}) == f"<{value}>"
