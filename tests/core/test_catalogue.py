"""The catalogue: every packaged requirement once, and none that rests on itself."""

from __future__ import annotations

import re

import pytest

from pytest_agentstream.cases import Case, case_of, requirement
from pytest_agentstream.catalogue import CatalogueError, catalogue, checked, families
from pytest_agentstream.probing import Probe, find, probe, probes_of
from pytest_agentstream.requirements import MUST, SHOULD, Level


def case(slug: str, *presupposes: str, level: Level = MUST) -> Case:
    def check() -> None:
        pass

    made = case_of(
        requirement(
            slug, level, tier="core", text="It is so.", source="x", presupposes=presupposes
        )(check)
    )
    assert made is not None
    return made


def test_a_slug_given_twice() -> None:
    """Two cases with one slug are a mistake, told by that slug."""
    with pytest.raises(CatalogueError, match=r"two cases have the slug t.a"):
        checked([case("t.a"), case("t.a")])


def test_a_prerequisite_that_nobody_has() -> None:
    """A slug that is presupposed and not there gets the nearest one."""
    with pytest.raises(CatalogueError, match=r"t.a presupposes t.roto, .* did you mean t.root\?"):
        checked([case("t.a", "t.roto"), case("t.root")])


def test_a_circle() -> None:
    """Requirements that presuppose each other are told in their order."""
    with pytest.raises(CatalogueError, match=r"in a circle: t.a -> t.b -> t.c -> t.a"):
        checked([case("t.a", "t.b"), case("t.b", "t.c"), case("t.c", "t.a")])


def test_packaged_slugs_are_names() -> None:
    """A slug is `family.words-with-hyphens`, in the module of its family or of a part of it."""
    for slug in catalogue():
        assert re.fullmatch(r"[a-z]+\.[a-z0-9]+(-[a-z0-9]+)*", slug), slug


def test_packaged_requirements_are_sentences() -> None:
    """Every requirement is a sentence, and says where it comes from."""
    for slug, one in catalogue().items():
        wanted = one.requirement
        assert wanted.text.endswith("."), slug
        assert wanted.source, slug


def test_packaged_cases_find_their_probes() -> None:
    """Every parameter of every packaged case is a probe, and every probe finds what it needs."""
    for family in families():
        for one in family.cases.values():
            for asked in probes_of(one).values():
                assert all(isinstance(needed, Probe) for needed in asked.needs)


def test_an_unknown_probe_gets_the_nearest() -> None:
    """A parameter that is no probe is told with who asks and the nearest probe."""
    with pytest.raises(LookupError) as caught:
        find("complet_run", {}, "t.a")
    assert str(caught.value) == (
        "t.a asks for 'complet_run', which is neither a probe nor a resource; "
        "did you mean 'complete_run'?"
    )


def test_a_probe_is_async() -> None:
    """Anything but an async def is refused as a probe."""

    def plain() -> None:
        pass

    with pytest.raises(TypeError, match="@probe needs an async def"):
        probe(plain)  # type: ignore[arg-type]


def test_a_case_is_not_async() -> None:
    """An async def is refused as a case."""

    async def check() -> None:
        pass

    with pytest.raises(TypeError, match="a case is a plain function"):
        requirement("t.a", SHOULD, tier="core", text="x", source="x")(check)  # type: ignore[type-var]
