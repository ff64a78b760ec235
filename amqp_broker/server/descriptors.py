"""The number of clients that fit into the file descriptors that the system lets this process have.

A client is refused before the last descriptor is gone: the journal needs some to go on, and a broker that cannot open
its next segment has to stop.
"""

from __future__ import annotations

import sys

# For the journal's segments, the event loop and the standard streams. Of a very low limit it is half.
RESERVED_FOR_OURSELVES = 100

if sys.platform != "win32":
    import resource

    def connections_that_fit() -> int:
        """The most connections that leave enough descriptors for ourselves; asked anew, as the limit can change."""
        limit = descriptors_limit()
        return sys.maxsize if limit is None else limit - min(RESERVED_FOR_OURSELVES, limit // 2)

    def descriptors_limit() -> int | None:
        """The most descriptors that the system lets this process have; None where it sets no limit."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return None if limit == resource.RLIM_INFINITY else limit

    def take_all_descriptors() -> None:
        """Raise this process's limit as far as the system allows; the usual 1,024 is meant for other programs."""
        soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft_limit != hard_limit:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
            except (OSError, ValueError):  # macOS shows no limit and accepts none
                return

else:

    def connections_that_fit() -> int:
        """No limit: Windows has none for sockets."""
        return sys.maxsize

    def descriptors_limit() -> int | None:
        """There is none."""
        return None

    def take_all_descriptors() -> None:
        """Nothing is to be raised."""
