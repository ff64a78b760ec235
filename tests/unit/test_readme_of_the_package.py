"""The description on the package's page: it links to the repository of that release, or to nothing."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("hatchling", reason="the build's own")
HOOK = runpy.run_path(str(ROOT / "hatch_readme.py"))
with_absolute_links, addresses = HOOK["with_absolute_links"], HOOK["addresses"]
REPOSITORY = "https://example.org/amqp-broker"


def test_links_and_images_into_the_repository_become_absolute() -> None:
    text = "see [the docs](docs/a.md#b) and ![a [b] c](docs/x.svg), [there](#there), [pika](https://pika.invalid/)"
    assert with_absolute_links(text, REPOSITORY, "v1") == (
        f"see [the docs]({REPOSITORY}/blob/v1/docs/a.md#b) and ![a [b] c]({REPOSITORY}/raw/v1/docs/x.svg), "
        "[there](#there), [pika](https://pika.invalid/)"
    )
    assert with_absolute_links(text, "", "v1") == (
        "see the docs and *(a [b] c)*, [there](#there), [pika](https://pika.invalid/)"
    )


@pytest.mark.parametrize("repository", ["", REPOSITORY])
def test_nothing_relative_is_left_of_our_own(repository: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = with_absolute_links(readme, repository, "v1")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert "<picture>" in readme
    assert "<picture>" not in text  # the package's page has no such thing
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_the_page_links_to_what_one_looks_for_where_there_is_such_a_thing() -> None:
    links = addresses(REPOSITORY, "v1")
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= set(links)
    assert all(link.startswith(REPOSITORY) for link in links.values())
    assert addresses("", "v1") == {"Homepage": "https://pypi.org/project/amqp-broker-server/"}


def test_pythons_are_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [found[1] for one in project["classifiers"] if (found := re.search(r"Python :: (3\.\d+)$", one))]
    tried = re.search(r"for candidate in (.*?) python3 python;", (ROOT / "Makefile").read_text())
    assert tried is not None
    assert [one.removeprefix("python") for one in tried[1].split()] == named
    assert f"| Linux | {named[0]} to {named[-1]} |" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert project["requires-python"] == f">={named[0]}"
