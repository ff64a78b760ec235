"""Several processes without any: their folders, directory and links, and whom a command of the command line asks."""

from __future__ import annotations

import errno
import json
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from amqp_broker.access.client import Peer, Tls
from amqp_broker.broker.inspection import SLICE_OBJECTS
from amqp_broker.network.listeners import AMQP, HTTP, USER_COUNTS
from amqp_broker.processes import events
from amqp_broker.processes.clients import PAUSE_S, ProcessClients
from amqp_broker.processes.commands import ProcessCommands
from amqp_broker.processes.events import AGAIN_S, EventsElsewhere, RefusedLogins, is_told_by_root, publish_events
from amqp_broker.processes.folder import (
    DirectoryFile,
    check_processes,
    directory_path,
    folder_of,
    keep_at_root,
    make_folders,
    read_directory,
    write_directory,
)
from amqp_broker.processes.link import (
    LINK_NAME,
    TAKEN,
    Brought,
    LinkUnreachable,
    _encode,
    bring,
    listen_for_links,
    serve_link,
)
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.data_folder import CannotUseDataFolder
from amqp_broker.server.sharding.arrivals import Arrival, Heard
from amqp_broker.server.sharding.directory import Directory
from amqp_broker.server.sharding.sharing import Sharing
from amqp_broker.session.login import Login
from amqp_broker.settings import Settings
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.served import QUIET, TrioClock

PEER = Peer("::1", 4000, True, None, "::1", 5672, Tls("TLSv1.3", "AES"))


class Known:
    def __init__(self) -> None:
        self.changed = trio.Event()

    def tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


async def nobody_else() -> None:
    pass


def test_what_one_process_has_made_stays_with_the_root(tmp_path: Path) -> None:
    make_folders(tmp_path, 2)
    keep_at_root(tmp_path, ["/", "old"])
    broker = MemoryBroker()
    for name in ("old", "new"):
        broker.administration.add_virtual_host(name)
    directory = read_directory(tmp_path).followed_by(broker, 2)
    assert {name: place.shard for name, place in directory.places.items()} == {"/": 0, "old": 0, "new": 1}


def test_fewer_processes_than_have_virtual_hosts_are_refused_with_the_way_out(tmp_path: Path) -> None:
    make_folders(tmp_path, 3)
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "1").touch()
    write_directory(tmp_path, Directory().with_places(["/"], 0).with_places(["b", "a"], 2).encode())
    check_processes(tmp_path, 3)
    check_processes(tmp_path, 4)
    with pytest.raises(CannotUseDataFolder, match=r"used by 3 processes, .* has 1: .*'a', 'b' .*--processes 3"):
        check_processes(tmp_path, 1)
    write_directory(tmp_path, b"nonsense")
    with pytest.raises(CannotUseDataFolder, match="use the release that wrote it"):
        check_processes(tmp_path, 3)


def test_a_missing_directory_and_a_missing_journal_are_refused_with_the_way_out(tmp_path: Path) -> None:
    check_processes(tmp_path, 2)
    make_folders(tmp_path, 2)
    assert (tmp_path / "processes").stat().st_mode & 0o777 == 0o700
    (folder_of(tmp_path, 1) / "journal").mkdir()
    check_processes(tmp_path, 2)  # killed in its first start
    write_directory(tmp_path, Directory().with_places(["/"], 0).with_places(["b"], 1).encode())
    with pytest.raises(CannotUseDataFolder, match=r"journal in .*/journal is missing, .*'b' would .* restore"):
        check_processes(tmp_path, 2)
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "1").touch()
    check_processes(tmp_path, 2)
    directory_path(tmp_path).unlink()
    with pytest.raises(CannotUseDataFolder, match=r"/directory is missing, .*/1/journal are: restore"):
        check_processes(tmp_path, 2)


def test_the_directory_is_written_whole_and_told_to_the_others_before_it_counts(tmp_path: Path) -> None:
    make_folders(tmp_path, 2)
    told: list[bytes] = []

    async def announce() -> None:
        told.append(read_directory(tmp_path).encode())

    async def use() -> None:
        shelf = DirectoryFile(tmp_path, announce)
        directory_path(tmp_path).unlink()
        assert await shelf.read() is None
        value = Directory().with_places(["/"], 0).encode()
        assert await shelf.replace(value, 0, b"")
        found = await shelf.read()
        assert found is not None
        assert found.value == value
        assert not told
        await shelf.announce()
        await shelf.announce()
        assert told == [value]

    trio.run(use)


def test_what_may_have_been_written_is_told_and_a_full_disk_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_folders(tmp_path, 2)
    told, failures = list[bytes](), [OSError(errno.ENOSPC, "full"), OSError(errno.ENOSPC, "full")]

    async def announce() -> None:
        told.append(directory_path(tmp_path).read_bytes())

    def write(folder: Path, value: bytes) -> None:
        write_directory(folder, value)
        if failures:
            raise failures.pop()  # behind the write, so that it stands there

    monkeypatch.setattr("amqp_broker.processes.folder.write_directory", write)

    async def use() -> None:
        server, known = BrokerServer(Settings(**QUIET), TrioClock()), Known()
        sharing = Sharing(DirectoryFile(tmp_path, announce), known, 2)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            await nursery.start(sharing.keep, 0, server, bytes)
            assert len(told) == 1, "where it begins, it was perhaps written and not told"
            for name in ("one", "two"):
                server.broker.administration.add_virtual_host(name)
                await sharing.until_shared()
            nursery.cancel_scope.cancel()
        assert told[-1] == directory_path(tmp_path).read_bytes() == sharing.directory.encode()

    trio.run(use, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert [one.message for one in caplog.records].count("directory not written") == 1


def test_a_client_comes_over_a_link_with_its_socket_and_all_that_it_has_said(tmp_path: Path) -> None:
    make_folders(tmp_path, 1)
    folder = folder_of(tmp_path, 0)
    ours, theirs = socket.socketpair()
    heard, taken = bytes(range(256)) * 400, list[Brought]()

    async def take(brought: Brought, link: trio.SocketStream) -> None:
        taken.append(brought)
        assert brought.client is not None
        brought.client.sendall(b"welcome")
        await link.send_all(TAKEN)

    async def use() -> None:
        async with trio.open_nursery() as nursery:
            listener = listen_for_links(folder)
            nursery.start_soon(trio.serve_listeners, lambda stream: serve_link(stream, take), [listener])
            link = await bring(folder, Brought(AMQP, PEER, heard, 3, theirs))
            await link.aclose()
            nursery.cancel_scope.cancel()

    with ours, theirs:
        trio.run(use)
        assert ours.recv(100) == b"welcome"
    (found,) = taken
    assert (found.protocol, found.peer, found.heard, found.answered) == (AMQP, PEER, heard, 3)


def test_a_defect_with_one_client_is_not_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_folders(tmp_path, 1)

    async def take(brought: Brought, link: trio.SocketStream) -> None:
        if brought.heard:
            raise LookupError("a defect")
        await link.send_all(TAKEN)

    async def use() -> None:
        async with trio.open_nursery() as nursery:
            listener = listen_for_links(folder_of(tmp_path, 0))
            nursery.start_soon(trio.serve_listeners, lambda stream: serve_link(stream, take), [listener])
            with pytest.raises(LinkUnreachable):
                await bring(folder_of(tmp_path, 0), Brought(AMQP, PEER, b"x"))
            await (await bring(folder_of(tmp_path, 0), Brought(AMQP, PEER))).aclose()
            nursery.cancel_scope.cancel()

    trio.run(use)
    assert "internal error" in caplog.text


def test_a_client_whose_socket_got_lost_on_the_way_is_not_taken(tmp_path: Path) -> None:
    make_folders(tmp_path, 1)
    ours, theirs = socket.socketpair()
    taken = list[Brought]()

    async def take(brought: Brought, link: trio.SocketStream) -> None:
        taken.append(brought)

    async def use() -> None:
        async with trio.open_nursery() as nursery:
            listener = listen_for_links(folder_of(tmp_path, 0))
            nursery.start_soon(trio.serve_listeners, lambda stream: serve_link(stream, take), [listener])
            async with await trio.open_unix_socket(folder_of(tmp_path, 0) / LINK_NAME) as link:
                line, _ = _encode(Brought(AMQP, PEER, b"x", 0, theirs))
                await link.send_all(line)
                assert await link.receive_some(1) == b""
            nursery.cancel_scope.cancel()

    with ours, theirs:
        trio.run(use)
    assert not taken


class Entered:
    """An entrance that lets everybody into one virtual host at once."""

    def agree(self, directory: Directory) -> None:
        pass

    async def receive(self, stream: trio.abc.Stream, peer: Peer, protocol: str) -> Arrival:
        return Arrival("other", b"said", 0)


def clients_of(folder: Path) -> ProcessClients:
    """The root's, where another process owns a virtual host."""
    sharing = Sharing(DirectoryFile(folder, nobody_else), Known(), 2)
    sharing.directory = Directory().with_places(["/"], 0).with_places(["other"], 1)
    settings = Settings(**QUIET)
    entrance: Any = Entered()
    clients = ProcessClients(settings, folder, 0, sharing, BrokerServer(settings), entrance)
    clients.begin()
    return clients


def test_a_client_counts_until_it_has_come_to_its_process(tmp_path: Path) -> None:
    clients, (ours, theirs) = clients_of(tmp_path), trio.testing.memory_stream_pair()

    async def use() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.serve, theirs, PEER, AMQP)
            await trio.sleep(PAUSE_S / 2)
            assert clients.count() == (2, 2), "process 1 is not there: it has logged in, and has a link now and then"
            clients.end()
        assert clients.count() == (0, 0)
        assert await ours.receive_some() == b""

    trio.run(use, clock=trio.testing.MockClock(autojump_threshold=0.01))


def test_a_client_that_waits_comes_to_where_its_virtual_host_was_made_anew(tmp_path: Path) -> None:
    clients, (_, theirs) = clients_of(tmp_path), trio.testing.memory_stream_pair()
    heard = list[bytes]()

    class Serving:
        async def serve_stream(self, stream: trio.abc.Stream, peer: Peer, protocol: str, beginning: Heard) -> None:
            heard.append(beginning.heard)

    server: Any = Serving()
    clients._server = server

    async def use() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.serve, theirs, PEER, AMQP)
            await trio.sleep(PAUSE_S / 2)
            clients._sharing.directory = Directory().with_places(["/", "other"], 0)

    trio.run(use, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert heard == [b"said"]


@pytest.mark.parametrize("when", ["one too many", "before the beginning", "at the end"])
@pytest.mark.parametrize("protocol", [AMQP, HTTP])
def test_a_client_that_is_one_too_many_stays_where_it_is(tmp_path: Path, protocol: str, when: str) -> None:
    clients = clients_of(tmp_path)
    if when == "at the end":
        clients.end()
    elif when == "one too many":
        clients.refuses_more = lambda: True
    else:
        clients._has_begun = False  # its journal was read, and it does not agree with the directory yet

    async def use() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            link = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
            await clients.take(Brought(protocol, PEER, client=ours), link)
            theirs.close()
            answer = ours.recv(10)
        is_taken = protocol == HTTP and when != "before the beginning"  # administrators keep nobody out
        assert answer == (TAKEN if is_taken else b"")

    trio.run(use)
    assert clients.count() == (0, 0)


def test_a_process_that_asks_is_told_what_users_with_limits_have(tmp_path: Path) -> None:
    clients = clients_of(tmp_path)
    broker = clients._server.broker
    broker.administration.set_user_limits("guest", connections_max=1)

    async def use() -> None:
        ours, theirs = socket.socketpair()
        async with trio.open_nursery() as nursery:
            link = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
            nursery.start_soon(clients.take, Brought(USER_COUNTS, PEER), link)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            said = b""
            while not said.endswith(b"\n"):
                said += await stream.receive_some()
            assert said == TAKEN + b'{"guest": [0, 0]}\n'
            assert broker.open_connections.watchers
            await stream.aclose()
        await link.aclose()
        assert not broker.open_connections.watchers

    trio.run(use)


def test_a_process_that_is_not_there_takes_nothing(tmp_path: Path) -> None:
    async def use() -> None:
        with pytest.raises(LinkUnreachable, match="No such file"):
            await bring(tmp_path, Brought(AMQP, PEER))

    trio.run(use)


def test_the_command_line_is_answered_when_the_other_processes_know(tmp_path: Path) -> None:
    order, request = list[str](), {"command": "vhosts.add", "arguments": {"name": "v"}}

    async def until_shared() -> None:
        order.append("shared")

    async def use() -> None:
        server = BrokerServer(Settings(**QUIET), until_shared=until_shared)
        server.control_folder = tmp_path
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            await trio.testing.wait_all_tasks_blocked()
            async with await trio.open_unix_socket(tmp_path / "control") as stream:
                await stream.send_all(json.dumps(request).encode() + b"\n")
                order.append(bytes(await stream.receive_some()).decode().strip())
            nursery.cancel_scope.cancel()

    trio.run(use)
    assert order == ["shared", '{"result": null}']


def test_events_come_to_the_process_that_has_their_exchange(tmp_path: Path) -> None:
    here, there, empty = (MemoryBroker(event_exchange="on") for _ in range(3))
    channel, folders = Client(here).open().channel(), iter([tmp_path / "not yet", tmp_path])
    channel.declare("events")
    for key in ("user.#", "vhost.#"):
        channel.bind("events", "amq.rabbitmq.event", key)
    elsewhere = EventsElsewhere(there)
    there.observers.add(elsewhere, of_messages=False)
    empty.observers.add(RefusedLogins(lambda: there), of_messages=False)
    here.is_told_elsewhere = is_told_by_root
    for broker in (here, there):
        broker.administration.on_behalf_of("the directory").add_user("u", None)  # the root has told it
    there.administration.on_behalf_of("somebody").set_virtual_host_limits("/", queues_max=3)
    for error in ("", "refused"):
        empty.handle(partial(Login(empty, PEER).tell, "PLAIN", "AMQP", error))

    async def take(brought: Brought, link: trio.SocketStream) -> None:
        publish_events(here, brought.heard)
        await link.send_all(TAKEN)

    async def use() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(elsewhere.send, lambda: next(folders))
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(AGAIN_S)
            listener = listen_for_links(tmp_path)
            async with listener:
                await serve_link(await listener.accept(), take)
            nursery.cancel_scope.cancel()

    clock = trio.testing.MockClock()
    trio.run(use, clock=clock)
    found = [one.headers for _ in range(3) if (one := channel.get("events", no_ack=True)) is not None]
    assert [one["user_who_performed_action"] for one in found] == ["somebody", "rmq-internal"]
    assert (found[0]["max-queues"], found[1]["error"]) == (3, "refused")


@pytest.mark.parametrize("limit", ["WAITING_MAX", "WAITING_BYTES_MAX"])
def test_of_events_that_wait_the_oldest_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    waiting = EventsElsewhere(MemoryBroker())
    for name in ("a", "b"):
        waiting.tell(name, {}, "")
    monkeypatch.setattr(events, limit, 2 if limit == "WAITING_MAX" else waiting._waiting_bytes)

    async def use() -> None:
        with trio.move_on_after(AGAIN_S / 2):
            await waiting.send(lambda: tmp_path)  # nobody is there
        assert [event for event, _ in waiting._waiting] == ["a", "b"]

    trio.run(use, clock=trio.testing.MockClock(autojump_threshold=0))
    waiting.tell("c", {}, "")
    assert [event for event, _ in waiting._waiting] == ["b", "c"]
    assert waiting._waiting_bytes == sum(len(header) for _, header in waiting._waiting)


class Asked(ProcessCommands):
    """Answers as processes would, and remembers who was asked."""

    def __init__(self, folder: Path, answers: dict[int, list[dict[str, Any]]]) -> None:
        sharing = Sharing(DirectoryFile(folder, nobody_else), Known(), 2)
        sharing.directory = Directory().with_places(["/"], 0).with_places(["other"], 1)
        broker = MemoryBroker()
        broker.administration.add_virtual_host("other")
        super().__init__(folder, 2, sharing, broker, lambda: self.asked.append(-1))
        self._answers = answers
        self.asked: list[int] = []

    async def _ask(self, number: int, line: bytes, pass_on: Any) -> dict[str, Any]:
        self.asked.append(number)
        *some, last = self._answers[number]
        for one in some:
            await pass_on(one)
        return last

    def run(self, command: str, **arguments: Any) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def send(answer: dict[str, Any]) -> None:
            sent.append(answer)

        trio.run(self.answer, json.dumps({"command": command, "arguments": arguments}).encode(), send)
        return sent


DONE = [{"result": None}]


@pytest.mark.parametrize(
    ("command", "arguments", "asked"),
    [
        ("queues.purge", {"vhost": "other", "name": "q"}, [1]),
        ("queues.purge", {"vhost": "/", "name": "q"}, [0]),
        ("vhosts.limits", {"name": "other"}, [1]),
        ("vhosts.delete", {"name": "other"}, [0]),
        ("users.add", {"name": "other"}, [0]),
        ("permissions.set", {"vhost": "other"}, [0]),
        ("parameters.set", {"component": "shovel", "vhost": "other"}, [1]),
        ("parameters.set", {"name": "cluster_name"}, [0]),
        ("parameters.list", {}, [0, 1]),
        ("queues.list", {"vhost": "other"}, [1]),
        ("queues.list", {}, [0, 1]),
        ("definitions.export", {"vhost": "other"}, [1]),
        ("definitions.export", {}, [0, 1]),
        ("definitions.import", {"vhost": "other", "definitions": {}}, [1]),
        ("definitions.import", {"definitions": {"users": [], "queues": [{"vhost": "other"}]}}, [1, 0, 0, 1]),
        ("plugins.enable", {"name": "p"}, [0, 1]),
        ("queues.peek", {"name": "q"}, []),
        ("broker.end", {}, [-1]),
    ],
)
def test_a_command_is_carried_out_by_whom_it_is_about(
    tmp_path: Path, command: str, arguments: dict[str, Any], asked: list[int]
) -> None:
    commands = Asked(tmp_path, {0: DONE, 1: DONE})
    (answer,) = commands.run(command, **arguments)
    assert commands.asked == asked
    assert ("error" in answer) is (not asked)


def test_a_defect_in_an_answer_ends_nobody(tmp_path: Path) -> None:
    (answer,) = Asked(tmp_path, {1: [{}]}).run("queues.purge", vhost="other")  # neither a result nor an error
    assert answer == {"error": "internal error; see the broker's log"}


def test_lists_are_collected_from_whose_the_virtual_hosts_are(tmp_path: Path) -> None:
    rows = [{"vhost": "/", "name": "a"}, {"vhost": "other", "name": "b"}, {"vhost": None, "name": "c"}]
    commands = Asked(tmp_path, {number: [{"items": list(rows)}, *DONE] for number in (0, 1)})
    answers = commands.run("parameters.list")
    assert [one["items"] for one in answers[:-1]] == [[rows[0], rows[2]], [rows[1]]]
    assert answers[-1] == {"result": None}


def test_definitions_are_collected_from_whose_they_are(tmp_path: Path) -> None:
    header: dict[str, Any] = {"section": None, "item": {"users": [], "queues": []}}
    rows = [{"section": "queues", "item": {"vhost": host, "name": "q"}} for host in ("/", "other")]
    user = {"section": "users", "item": {"name": "guest"}}
    commands = Asked(tmp_path, {number: [{"items": [header, user, *rows]}, *DONE] for number in (0, 1)})
    answers = commands.run("definitions.export")
    assert [one["items"] for one in answers[:-1]] == [[header, user, rows[0]], [rows[1]]]


def test_what_one_process_is_asked_alone_is_passed_on_whole(tmp_path: Path) -> None:
    items = [{"section": None, "item": {"queues": []}}, {"section": "queues", "item": {"name": "q"}}]
    answers = Asked(tmp_path, {1: [{"items": list(items)}, *DONE]}).run("definitions.export", vhost="other")
    assert answers == [{"items": items}, *DONE]
    permissions = [{"user": "guest", "vhost": host} for host in ("/", "other")]  # the root has those of all
    answers = Asked(tmp_path, {0: [{"items": list(permissions)}, *DONE]}).run("permissions.list")
    assert answers == [{"items": permissions}, *DONE]


def test_no_more_connections_are_closed_than_were_asked_for(tmp_path: Path) -> None:
    class Closing(Asked):
        async def _ask(self, number: int, line: bytes, pass_on: Any) -> dict[str, Any]:
            self.asked.append(number)
            limit = json.loads(line)["arguments"].get("limit")
            return {"result": 2 if not limit else min(limit, 2)}

    for limit, closed, asked in ((1, 1, [0]), (2, 2, [0]), (3, 3, [0, 1]), (9, 4, [0, 1]), (0, 4, [0, 1])):
        commands = Closing(tmp_path, {})
        assert commands.run("connections.close-many", reason="r", limit=limit) == [{"result": closed}]
        assert commands.asked == asked


def traced(*at: int, since: int | None, vhost: str | None = None) -> dict[str, Any]:
    """What a process says of its trace, and its messages."""
    messages = [{"hops": [{"at": one}]} for one in at]
    return {"on": since is not None, "vhost": vhost, "traces": len(at), "since": since, "messages": messages}


class Tracing(Asked):
    """Processes with traces."""

    def __init__(self, folder: Path, *traces: dict[str, Any]) -> None:
        super().__init__(folder, {})
        self.traces = traces
        self.commands: list[tuple[int, str]] = []

    async def _ask(self, number: int, line: bytes, pass_on: Any) -> dict[str, Any]:
        command = json.loads(line)["command"]
        self.commands.append((number, command))
        if command != "trace.show":
            return {"result": {name: value for name, value in self.traces[number].items() if name != "messages"}}
        await pass_on({"items": self.traces[number]["messages"]})
        return {"result": None}


def test_messages_are_traced_in_all_processes_or_in_that_of_one_virtual_host(tmp_path: Path) -> None:
    both = Tracing(tmp_path, traced(4, 1, since=10), traced(3, since=11))
    (status,) = both.run("trace.status")
    assert (status["result"]["traces"], status["result"]["since"]) == (3, 11)
    shown, _ = both.run("trace.show")
    assert [message["hops"][0]["at"] for message in shown["items"]] == [4, 3, 1]
    assert Tracing(tmp_path, traced(since=10), traced(since=11)).run("trace.show") == DONE
    many = Tracing(tmp_path, traced(*range(SLICE_OBJECTS), since=10), traced(SLICE_OBJECTS, since=11))
    assert [len(answer["items"]) for answer in many.run("trace.show")[:-1]] == [SLICE_OBJECTS, 1]
    one = Tracing(tmp_path, traced(4, 1, since=10), traced(3, since=11, vhost="other"))
    assert one.run("trace.status")[0]["result"]["traces"] == 1
    assert one.run("trace.show")[0]["items"] == one.traces[1]["messages"]
    for arguments, commands in (
        ({}, [(0, "trace.start"), (1, "trace.start")]),
        ({"vhost": "other"}, [(1, "trace.start"), (0, "trace.stop")]),
    ):
        asked = Tracing(tmp_path, *one.traces)
        asked.run("trace.start", **arguments)
        assert asked.commands == commands


def test_users_are_listed_with_their_connections_to_all_processes(tmp_path: Path) -> None:
    def of_process(**connections: int) -> list[dict[str, Any]]:
        return [{"items": [{"name": name, "connections": count}]} for name, count in connections.items()] + DONE

    commands = Asked(tmp_path, {0: of_process(ada=1, eve=2), 1: of_process(ada=3)})
    assert commands.run("users.list") == of_process(ada=4, eve=2)
    away = {"error": "process 1 does not answer now"}
    assert Asked(tmp_path, {0: of_process(ada=1), 1: [away]}).run("users.list") == [away]


def test_an_import_that_ends_half_way_says_so(tmp_path: Path) -> None:
    class Half(Asked):
        async def _ask(self, number: int, line: bytes, pass_on: Any) -> dict[str, Any]:
            asked = json.loads(line)["arguments"]
            is_lost = number == 1 and not asked["dry_run"]
            if not asked["dry_run"]:
                self._sharing.directory = self._sharing.directory.with_places(["new"], 1)
            self.asked.append(number)
            return {"error": "it is gone"} if is_lost else {"result": dict.fromkeys(asked["definitions"], 1)}

    document: dict[str, list[Any]] = {"users": [{}], "queues": [{"vhost": "/"}, {"vhost": "new"}]}
    commands = Half(tmp_path, {})
    (answer,) = commands.run("definitions.import", definitions=document)
    assert commands.asked == [0, 0, 0, 1], "the root checks what is to be in a virtual host that is not there yet"
    assert answer["error"].startswith("shard 1 has not imported its part: it is gone; users, permissions and virtual")
    del document["queues"][1]
    assert commands.run("definitions.import", definitions=document) == [{"result": {"users": 1, "queues": 1}}]


def test_who_waits_for_an_import_hears_that_it_goes_on(tmp_path: Path) -> None:
    answers = Asked(tmp_path, {0: [{"progress": {}}, {"result": {}}]}).run("definitions.import", definitions={})
    assert answers == [{"progress": {}}, {"progress": {}}, {"result": {}}]  # it is checked, and had


@pytest.mark.parametrize(("heard", "asked"), [(0, [1]), (2, [1, 0, 0, 1])])
def test_an_import_that_has_begun_goes_on_when_its_client_hangs_up(
    heard: int, asked: list[int], tmp_path: Path
) -> None:
    answers: list[dict[str, Any]] = [{"progress": {}}, {"result": {}}]
    commands, sent = Asked(tmp_path, {0: answers, 1: answers}), list[object]()

    async def send(answer: object) -> None:
        if len(sent) == heard:
            raise trio.BrokenResourceError
        sent.append(answer)

    request = {"command": "definitions.import", "arguments": {"definitions": {"queues": [{"vhost": "other"}]}}}
    with pytest.raises(trio.BrokenResourceError):
        trio.run(commands.answer, json.dumps(request).encode(), send)
    assert commands.asked == asked


def test_counts_are_added_and_a_process_that_fails_has_the_word(tmp_path: Path) -> None:
    counts = {"virtual_hosts": 2, "queues": 3, "exchanges": 14}
    status = {"version": "1", "counts": counts, "pid": 7}
    answers = {0: [{"result": status}], 1: [{"result": {**status, "counts": {**counts, "queues": 4}}}]}
    (answer,) = Asked(tmp_path, answers).run("status")
    assert answer["result"]["counts"] == {"virtual_hosts": 2, "queues": 7, "exchanges": 21}
    failing = Asked(tmp_path, {0: [{"result": 2}], 1: [{"error": "no"}]})
    assert failing.run("connections.close-many", reason="r") == [{"error": "no"}]
    assert Asked(tmp_path, {0: [{"result": 2}], 1: [{"result": 3}]}).run("connections.close-many") == [{"result": 5}]


def test_what_is_named_is_found_at_whichever_process_it_is(tmp_path: Path) -> None:
    missing: list[dict[str, Any]] = [{"error": "there is no connection 'c'", "kind": "NotThere"}]
    for answers, told in (
        ({0: missing, 1: [{"result": 1}]}, {"result": 1}),
        ({0: [{"result": 1}], 1: missing}, {"result": 1}),
        ({0: missing, 1: missing}, missing[0]),
        ({0: missing, 1: [{"error": "it is away"}]}, {"error": "it is away"}),
    ):
        assert Asked(tmp_path, answers).run("connections.close", name="c", reason="r") == [told]
    assert Asked(tmp_path, {0: missing, 1: DONE}).run("federation.restart", id="i") == DONE
    assert Asked(tmp_path, {0: DONE, 1: missing}).run("federation.restart", id="i") == DONE


def test_a_shovel_comes_to_a_virtual_host_of_which_this_process_has_the_name_alone() -> None:
    shovel = {"src-uri": "amqp://", "src-queue": "q", "dest-uri": "amqp:///other", "dest-queue": "q"}

    async def use() -> None:
        root, owner = (BrokerServer(Settings(**QUIET), TrioClock()) for _ in range(2))
        async with trio.open_nursery() as nursery:
            for server in (root, owner):
                server.broker.administration.add_virtual_host("other")
                server.broker.administration.set_permission("guest", "other", ".*", ".*", ".*")
                await nursery.start(server.serve)
            root.serve_elsewhere = {"other": owner.serve_stream}.get
            parameters = root.broker.administration.parameters
            root.broker.handle(partial(parameters.set_parameter, "/", "shovel", "s", shovel))
            with trio.fail_after(10):
                while "q" not in owner.broker.virtual_hosts["other"].queues:  # noqa: ASYNC110  # nobody tells
                    await trio.sleep(0.1)
            assert not root.broker.virtual_hosts["other"].queues
            nursery.cancel_scope.cancel()

    trio.run(use, clock=trio.testing.MockClock(autojump_threshold=0.01))
