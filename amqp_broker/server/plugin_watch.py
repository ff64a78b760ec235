"""The watch over code of packages, which runs in the event loop's thread: when the loop stands still in it, the log
names the plugin and the place.

Nothing can interrupt such code from outside; but an operator must learn whose it is. There is a task that tells that
the loop turns, and a thread that looks at what the loop's thread is doing when it has not turned for a while; neither
is there before a broker uses a plugin that is not in the box.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Final

import trio

from amqp_broker.broker.plugin_types import PluginType
from amqp_broker.logs import log_event

PATIENCE_S: Final = 5.0
INTERVAL_S: Final = 1.0


class PluginWatch:
    """The watch over one event loop: whether it turns, and which plugin is to blame when it does not.

    Args:
        plugins: that are used, by the values of their entry points; it may grow.
        thread_id: the event loop's.
        now_s: tells the time.
        patience_s: how long the loop may stand still.
    """

    def __init__(
        self,
        plugins: Mapping[str, PluginType],
        thread_id: int,
        now_s: Callable[[], float] = time.monotonic,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._plugins = plugins
        self._thread_id = thread_id
        self._now_s = now_s
        self._patience_s = patience_s
        self._turned_s = now_s()
        self._blamed: PluginType | None = None

    def loop_turns(self) -> None:
        """The loop has its turn."""
        stood_s = self._now_s() - self._turned_s
        self._turned_s += stood_s
        plugin, self._blamed = self._blamed, None
        if plugin is not None:
            package = plugin.package
            log_event(logging.WARNING, "plugin goes on", type=plugin.name, package=package, stood_s=round(stood_s, 1))

    def look(self) -> None:
        """Name the plugin in whose code the loop stands still, once. Runs in another thread."""
        stood_s = self._now_s() - self._turned_s
        if stood_s < self._patience_s or self._blamed is not None:
            return
        for frame in _frames(sys._current_frames().get(self._thread_id)):
            plugin = self._plugin_of(str(frame.f_globals.get("__name__", "")))
            if plugin is not None:
                self._blamed = plugin
                place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
                log_event(
                    logging.ERROR,
                    "plugin hangs",
                    type=plugin.name,
                    package=plugin.package,
                    where=place,
                    stands_s=round(stood_s, 1),
                    way_out="nobody is served until it returns; restart the broker without that package, or mend it",
                )
                return

    def _plugin_of(self, module: str) -> PluginType | None:
        """The plugin whose code a module is: its own, or else one of its package."""
        package = module.partition(".")[0]
        found = None
        for value, plugin in list(self._plugins.items()):
            its_module = value.partition(":")[0]
            if its_module == module:
                return plugin
            if its_module.partition(".")[0] == package:
                found = plugin
        return found


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that called it, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


async def watch_plugins(
    plugins: Mapping[str, PluginType], *, patience_s: float = PATIENCE_S, interval_s: float = INTERVAL_S
) -> None:
    """Watch the loop that this runs in; never returns, ends by cancellation.

    Args:
        plugins: as of ``PluginWatch``.
        patience_s: how long the loop may stand still.
        interval_s: how often it is looked at.
    """
    watch = PluginWatch(plugins, threading.get_ident(), patience_s=patience_s)
    is_over = threading.Event()

    def look_again_and_again() -> None:
        while not is_over.wait(interval_s):
            watch.look()

    threading.Thread(target=look_again_and_again, name="plugin watch", daemon=True).start()
    try:
        while True:
            watch.loop_turns()
            await trio.sleep(interval_s)
    finally:
        is_over.set()
