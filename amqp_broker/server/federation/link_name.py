"""The name of a federation link: what is federated, and from where. Holds nothing of what a link does."""

from __future__ import annotations

import zlib
from typing import NamedTuple


class LinkName(NamedTuple):
    """The name of a federation link.

    Args:
        kind: ``exchange`` or ``queue``.
        name: of what is federated here.
        upstream_name: of the same at the upstream.
    """

    virtual_host: str
    kind: str
    name: str
    upstream: str
    upstream_name: str

    @property
    def identity(self) -> str:
        """What commands call it by."""
        return f"{zlib.crc32(chr(0).join(self).encode()):08x}"
