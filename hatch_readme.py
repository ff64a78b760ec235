"""README for the package's page: what it links to is not beside it there, so its links become absolute.

``repository`` in pyproject.toml, at ``[tool.hatch.metadata.hooks.custom]``, is the address of the public repository.
Where it is empty, the only address is that of the package's page, a link into the repository is left as its text and an
image as its description: no link is better than one that leads nowhere, or to a stranger.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PAGE = "https://pypi.org/project/amqp-broker-server/"
# A picture that a dark page has in dark: the package's page shows the one for light pages.
_PICTURE = re.compile(r'<picture>.*?<img alt="([^"]*)" src="([^"]*)">.*?</picture>', re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?://|#)([^)\s]+)\)")


class ReadmeAndAddresses(MetadataHookInterface):
    """Gives the package its description, and the addresses of its repository."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in what pyproject.toml leaves to the build."""
        repository = str(self.config.get("repository", "")).rstrip("/")
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        version = re.search(r'__version__ = "(.*)"', (Path(self.root) / "amqp_broker" / "__init__.py").read_text())
        assert version is not None
        text = with_absolute_links(readme, repository, f"v{version.group(1)}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = addresses(repository, f"v{version.group(1)}")


def addresses(repository: str, tag: str) -> dict[str, str]:
    """The links beside the description, by name; without a repository the package's page, which publishing makes."""
    if not repository:
        return {"Homepage": PAGE}
    return {
        "Homepage": repository,
        "Source": repository,
        "Documentation": f"{repository}/tree/{tag}/docs",
        "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def with_absolute_links(readme: str, repository: str, tag: str) -> str:
    """The text with every link and image into the repository made absolute, or left out.

    Args:
        readme: Markdown.
        repository: its public address; empty where there is none.
        tag: of the release, so that the page keeps showing what belongs to it.
    """

    def absolute(found: re.Match[str]) -> str:
        image, text, path = found.groups()
        if repository:
            return f"{image}[{text}]({repository}/{'raw' if image else 'blob'}/{tag}/{path})"
        return f"*({text})*" if image else text

    return _LINK.sub(absolute, _PICTURE.sub(r"![\1](\2)", readme))
