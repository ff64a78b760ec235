"""The trace of messages (``broker/message_traces.py``) of all processes, as one to the command line.

Each process traces what is in its own virtual hosts; the trace that began last has the word.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from amqp_broker.broker.inspection import SLICE_OBJECTS

START: Final = "trace.start"
STATUS: Final = "trace.status"
STOP: Final = "trace.stop"
SHOW: Final = "trace.show"
COMMANDS: Final = (START, STATUS, STOP, SHOW)

Answer = dict[str, Any]
Send = Callable[[Answer], Awaitable[None]]
Ask = Callable[[int, bytes, Send], Awaitable[Answer]]  # a process, with a request; it answers with its last line


class ProcessTraces:
    """The traces of all processes.

    Args:
        ask: has one of them answer.
        count: how many there are.
    """

    def __init__(self, ask: Ask, count: int) -> None:
        self._ask = ask
        self._count = count

    async def answer(self, command: str, line: bytes, owner: int | None, send: Send) -> Answer:
        """Have a request answered; returns the last line of the answer.

        Args:
            owner: the process of the virtual host that alone is to be traced; None where there is none.
        """
        if command == START and owner is not None:
            return await self._start_one(line, owner)
        if command == SHOW:
            return await self._show(line, send)
        return await self._status(line)

    async def _start_one(self, line: bytes, owner: int) -> Answer:
        """Nobody else goes on with another trace."""
        started = await self._ask(owner, line, _nothing)
        if "error" not in started:
            for number in range(self._count):
                if number != owner:
                    await self._ask(number, _request(STOP), _nothing)
        return started

    async def _status(self, line: bytes) -> Answer:
        statuses: list[Answer] = []
        for number in range(self._count):
            last = await self._ask(number, line, _nothing)
            if "error" in last:
                return last
            statuses.append(last["result"])
        newest = statuses[_newest(statuses)]
        shown = statuses if newest["vhost"] is None else [newest]
        return {"result": {**newest, "traces": sum(one["traces"] for one in shown)}}

    async def _show(self, line: bytes, send: Send) -> Answer:
        """The last message first, whichever process had it."""
        statuses: list[Answer] = []
        found: list[list[Answer]] = []
        for number in range(self._count):
            messages: list[Answer] = []

            async def collect(answer: Answer, messages: list[Answer] = messages) -> None:
                messages += answer["items"]

            status = await self._ask(number, _request(STATUS), _nothing)
            last = await self._ask(number, line, collect) if "error" not in status else status
            if "error" in last:
                return last
            statuses.append(status["result"])
            found.append(messages)
        newest = _newest(statuses)
        shown = found if statuses[newest]["vhost"] is None else [found[newest]]
        every = [message for messages in shown for message in messages]
        every.sort(key=lambda message: -message["hops"][0]["at"])
        for first in range(0, len(every), SLICE_OBJECTS):  # others have their turn between two
            await send({"items": every[first : first + SLICE_OBJECTS]})
        return {"result": None}


def _newest(statuses: list[Answer]) -> int:
    """Which trace began last."""
    return max(range(len(statuses)), key=lambda number: statuses[number]["since"] or 0)


def _request(command: str) -> bytes:
    return json.dumps({"command": command, "arguments": {}}).encode()


async def _nothing(answer: Answer) -> None:
    """There is nothing but the last line."""
