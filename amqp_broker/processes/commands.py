"""The command line's way in: commands go to the process that they are about, lists are collected from all.

Each process has a control socket in its folder (``server/control.py``); here is the one in the data folder, where the
command line looks for it. A line is read, passed on as it is, and the answers are passed back.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.problems import NotThere
from amqp_broker.explanations import system_reason
from amqp_broker.logs import log_event, log_internal_error
from amqp_broker.processes import traces
from amqp_broker.processes.folder import folder_of
from amqp_broker.processes.traces import ProcessTraces
from amqp_broker.server.control import CLIENTS_MAX, LINE_BYTES_MAX, LISTS, PATIENCE_S
from amqp_broker.server.control_address import SOCKET_NAME, bind_for_owner, reachable_address
from amqp_broker.server.importing import read_json_in_turns
from amqp_broker.server.sharding.definitions import OF_VIRTUAL_HOSTS, Stage, Step, half_done, import_steps
from amqp_broker.server.sharding.shards import ROOT
from amqp_broker.server.sharding.sharing import Sharing

READ_BYTES: Final = 65_536
JSON_DEPTH: Final = 4  # of definitions, in a request
ANSWER_S: Final = 25.0  # between two lines of a process: the command line itself waits for 30 s (cli/control.py)
OF_ROOT: Final = (
    "permissions.",
    "users.",
    "vhosts.add",
    "vhosts.describe",
    "vhosts.protect",
    "vhosts.delete",
)
CLOSE_MANY: Final = "connections.close-many"
OF_ALL: Final = (  # added up
    "broker.stats",
    "connections.close",
    CLOSE_MANY,
    "drops.count",
    "federation.restart",
    "plugins.disable",
    "plugins.enable",
    "status",
)
PARAMETERS: Final = "parameters."
USERS: Final = "users.list"
IMPORT: Final = "definitions.import"
EXPORT: Final = "definitions.export"
OF_ONE: Final = ("events.", "limits.", "listeners.", "log.")  # what a process does to itself, and tells of itself
OF_SOME: Final = ("connections.close", "federation.restart")  # of these, what is named need not be with each
KNOWN_TO_ALL: Final = ("users", "virtual_hosts")  # counts that are not added

Answer = dict[str, Any]
Send = Callable[[Answer], Awaitable[None]]


class Refused(Exception):
    """The command cannot be carried out here; the text says why, and the way out."""


class ProcessCommands:
    """The processes, to the command line.

    Args:
        data_folder: of the broker.
        count: how many processes there are.
        sharing: the directory.
        broker: the root's.
        end: begins the end of all.
    """

    def __init__(
        self,
        data_folder: Path,
        count: int,
        sharing: Sharing,
        broker: Broker,
        end: Callable[[], None],
    ) -> None:
        self._data_folder = data_folder
        self._count = count
        self._sharing = sharing
        self._broker = broker
        self._end = end

    async def answer(self, line: bytes, send: Send) -> None:
        """Have a request answered."""
        try:
            await self._answer(line, send)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise
        except Exception as error:
            log_internal_error("control", error)
            await send({"error": "internal error; see the broker's log"})

    async def _answer(self, line: bytes, send: Send) -> None:
        try:
            request: Any = await read_json_in_turns(line, JSON_DEPTH)
            command, arguments = request["command"], request.get("arguments", {})
            if command == IMPORT and not isinstance(arguments.get("vhost"), str):
                await send(await self._import(arguments["definitions"], send))
                return
            numbers = self._processes_of(command, arguments)
        except Refused as refused:
            await send({"error": str(refused), "kind": "NotPossible"})
            return
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            way_out = "call the amqp-broker of the same release as this broker"
            await send({"error": f"the request was not understood: {way_out}"})
            return
        if command == USERS:
            await send(await self._users(line, send))
            return
        if command in traces.COMMANDS:
            host = arguments.get("vhost")
            owner = self._shard_of(host) if isinstance(host, str) else None
            await send(await ProcessTraces(self._ask, self._count).answer(command, line, owner, send))
            return
        if command == "broker.end":
            await send({"result": None})
            self._end()
            return
        result: Any = None
        missing: Answer | None = None
        is_there = False
        for number in numbers:

            async def pass_on(answer: Answer, number: int = number) -> None:
                if "items" in answer and len(numbers) > 1:  # one alone knows all that it is asked for
                    answer["items"] = [one for one in answer["items"] if self._is_of(number, one, command)]
                await send(answer)

            last = await self._ask(number, line, pass_on)
            if command in OF_SOME and last.get("kind") == NotThere.__name__:
                missing = last
                continue
            if "error" in last:
                await send(last)
                return
            is_there = True
            result = _together(result, last["result"])
            if command == CLOSE_MANY and arguments.get("limit"):
                left = arguments["limit"] - result
                if left <= 0:
                    break
                line = json.dumps({**request, "arguments": {**arguments, "limit": left}}).encode()
        if missing is not None and not is_there:
            await send(missing)
            return
        await send({"result": self._of_all(result) if command == "status" else result})

    def _processes_of(self, command: str, arguments: Mapping[str, Any]) -> list[int]:
        """Which processes a command is about.

        Raises:
            Refused: it can be done in none.
        """
        name = arguments.get("name" if command.startswith("vhosts.") else "vhost")
        if command.startswith(OF_ROOT):
            return [ROOT]
        if isinstance(name, str):
            return [self._shard_of(name)]
        if command.startswith(OF_ONE):
            raise Refused(f"{command} is for a broker of one process: start it without --processes")
        if command in LISTS or command in (*OF_ALL, *traces.COMMANDS, "broker.end"):
            return list(range(self._count))
        if command.startswith(PARAMETERS):  # global ones
            return [ROOT]
        raise Refused(f"{command} is for one process: name a virtual host, or do it over HTTP")

    def _is_of(self, number: int, item: Mapping[str, Any], command: str) -> bool:
        """Whether a process has the word about an item: the root knows all virtual hosts, and the others their own."""
        if command == EXPORT:  # users and the like, and what stands before the lists, are the root's
            key, item = "vhost", item["item"] if item["section"] in OF_VIRTUAL_HOSTS else {"vhost": None}
        else:
            key = "name" if command == "vhosts.list" else "vhost"
        if key not in item:
            return True
        return self._shard_of(item[key]) == number if item[key] is not None else number == ROOT

    def _shard_of(self, virtual_host: str) -> int:
        """Where a virtual host is now."""
        return self._sharing.directory.shard_of(virtual_host)

    async def _users(self, line: bytes, send: Send) -> Answer:
        """The root's list, with the connections that users have at all; returns the last line of the answer."""
        connections = Counter[str]()

        async def count(answer: Answer) -> None:
            connections.update({user["name"]: user["connections"] for user in answer["items"]})

        async def pass_on(answer: Answer) -> None:
            for user in answer["items"]:
                user["connections"] += connections[user["name"]]
            await send(answer)

        for number in range(1, self._count):
            last = await self._ask(number, line, count)
            if "error" in last:
                return last
        return await self._ask(ROOT, line, pass_on)

    async def _import(self, document: Any, tell: Send) -> Answer:
        """Import definitions of all; returns the last line of the answer, with the counts added up.

        Args:
            tell: is told now and then that it goes on.
        """
        if not isinstance(document, dict):  # the root says so
            return await self._imported(Step(Stage.ROOT, ROOT, document), tell)
        done, result = list[int](), None
        for step in import_steps(document, range(self._count), self._shard_of):
            last = await self._imported(step, tell)
            if "error" in last:
                return {**last, "error": half_done(step, last["error"], done)} if step.stage is Stage.HOSTS else last
            if step.stage is not Stage.CHECK:
                result = _together(result, last["result"])
            if step.stage is Stage.HOSTS:
                done.append(step.shard)
        return {"result": result}

    async def _imported(self, step: Step, tell: Send) -> Answer:
        """One step; who hangs up ends it while all is only checked, and leaves nothing half done behind that."""
        is_heard = True

        async def tell_who_is_there(answer: Answer) -> None:
            nonlocal is_heard
            try:
                if is_heard:
                    await tell(answer)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                is_heard = False
                if step.stage is Stage.CHECK:
                    raise

        arguments = {"definitions": step.document, "dry_run": step.stage is Stage.CHECK}
        request = json.dumps({"command": IMPORT, "arguments": arguments}).encode()
        return await self._ask(step.shard, request, tell_who_is_there)

    async def _ask(self, number: int, line: bytes, pass_on: Send) -> Answer:
        """Have a process answer; returns its last line, the others are passed on."""
        path = folder_of(self._data_folder, number) / SOCKET_NAME
        received = bytearray()
        gone = OSError, trio.BrokenResourceError, trio.TooSlowError
        with suppress(*gone), trio.socket.socket(socket.AF_UNIX) as calling:
            stream = trio.SocketStream(calling)
            with trio.fail_after(PATIENCE_S):
                with reachable_address(path) as address:
                    await calling.connect(address)
                await stream.send_all(line + b"\n")
            while True:
                with trio.fail_after(ANSWER_S):
                    data = await stream.receive_some(READ_BYTES)
                if not data:
                    break
                received += data
                while (end := received.find(b"\n")) >= 0:
                    answer: Answer = json.loads(received[:end])
                    del received[: end + 1]
                    if "result" in answer or "error" in answer:
                        return answer
                    await pass_on(answer)
        return {"error": f"process {number} does not answer now", "kind": "NotPossible"}

    def _of_all(self, status: Answer) -> Answer:
        """The status of the broker, of that of its root with the counts of all."""
        status["data_folder"] = str(self._data_folder)
        status["pid"] = os.getppid()
        hosts = self._broker.virtual_hosts.values()
        elsewhere = [host for host in hosts if self._shard_of(host.name) != ROOT]
        status["counts"]["exchanges"] -= sum(len(host.exchanges) for host in elsewhere)  # that the owners count
        return status


def _together(one: Any, other: Any) -> Any:
    """What two processes say: what they count is added, of all else the first one has the word."""
    if one is None or isinstance(one, bool):
        return other if one is None else one
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    if isinstance(one, dict) and isinstance(other, dict) and "counts" in one:
        return {**one, "counts": {**_together(one["counts"], other["counts"]), **_of_root(one["counts"])}}
    if isinstance(one, dict) and isinstance(other, dict):
        return {name: _together(one.get(name), other.get(name)) for name in {**one, **other}}
    return one


def _of_root(counts: Mapping[str, Any]) -> Answer:
    return {name: counts[name] for name in KNOWN_TO_ALL if name in counts}


async def serve_commands(
    commands: ProcessCommands,
    data_folder: Path,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer the command line until cancelled. Starts when it can call."""
    path = data_folder / SOCKET_NAME
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bind_for_owner(listening, path, CLIENTS_MAX)
    except OSError as error:
        listening.close()
        log_event(logging.ERROR, "no control socket", path=str(path), reason=system_reason(error))
        task_status.started()
        return
    task_status.started()
    served = trio.CapacityLimiter(CLIENTS_MAX)

    async def serve_one(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.TooSlowError):
            async with served, stream:
                await _converse(commands, stream)

    try:
        await trio.serve_listeners(serve_one, [trio.SocketListener(trio.socket.from_stdlib_socket(listening))])
    finally:
        path.unlink(missing_ok=True)


async def _converse(commands: ProcessCommands, stream: trio.SocketStream) -> None:
    received = bytearray()

    async def send(answer: Answer) -> None:
        with trio.fail_after(PATIENCE_S):
            await stream.send_all(json.dumps(answer).encode() + b"\n")

    while True:
        with trio.fail_after(PATIENCE_S):
            data = await stream.receive_some(READ_BYTES)
        if not data or len(received) > LINE_BYTES_MAX:
            return
        before = len(received)
        received += data
        while (end := received.find(b"\n", before)) >= 0:
            line = bytes(received[:end])
            del received[: end + 1]
            before = 0
            await commands.answer(line, send)
