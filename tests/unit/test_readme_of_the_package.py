"""The description on the package's page: it links to the repository of that release, or to nothing."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("hatchling", reason="the build's own")
with_absolute_links = runpy.run_path(str(ROOT / "hatch_readme.py"))["with_absolute_links"]
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
    links = re.findall(r"\]\(([^)]+)\)", with_absolute_links(readme, repository, "v1"))
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
