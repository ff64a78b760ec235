"""Notices to systemd about the broker: ready, reloading, stopping, alive (sd_notify(3)).

A datagram to the socket that ``NOTIFY_SOCKET`` names; without that variable nothing is sent. Needs no library.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import trio

_UNIX = getattr(socket, "AF_UNIX", -1)  # Windows has none, and nobody there who wants to know
WATCHDOG_SHARE = 0.5  # of the time after which systemd takes the broker for dead; as sd_watchdog_enabled(3) advises


class ServiceManager:
    """The service manager that has started this process, if it wants to be told.

    Args:
        environment: where it says so.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._is_ready = False
        self._watchdog_s = _watchdog_s(environment)

    def ready(self) -> None:
        """Clients can connect."""
        self._is_ready = True
        self._tell("READY=1")

    def reloading(self) -> None:
        """The certificates are read again; ``reloaded`` follows."""
        if self._is_ready:
            self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """They were read."""
        if self._is_ready:
            self._tell("READY=1")

    def stopping(self) -> None:
        """No new clients; those that are here are sent away."""
        self._tell("STOPPING=1")

    async def keep_watchdog(self) -> None:
        """Say again and again that the event loop goes round; returns at once where nobody wants to know."""
        while self.alive_every_s:
            self.alive()
            await trio.sleep(self.alive_every_s)

    @property
    def alive_every_s(self) -> float:
        """After which time ``alive`` is to be called again; 0 where nobody wants to know."""
        return self._watchdog_s * WATCHDOG_SHARE if self._address else 0.0

    def alive(self) -> None:
        """It goes on, as far as it knows itself."""
        if self.alive_every_s:
            self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(_UNIX, socket.SOCK_DGRAM) as notifying:
                notifying.setblocking(False)
                notifying.sendto(text.encode(), address)
        except OSError:
            pass  # whoever asked for it has gone, or takes nothing: that must not end a broker


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """The time that systemd allows between two signs of life; 0 where it wants none, or has another process in mind."""
    pid, interval_us = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if not interval_us.isdigit() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(interval_us) / 1_000_000
