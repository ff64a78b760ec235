"""Logins and permissions that others decide: over HTTP, by one that fails or hangs, in which order, for how long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from pamqp import commands

from amqp_broker.access.client import Peer
from amqp_broker.protocols.mqtt.packets import Connect, Subscribe, Subscription
from amqp_broker.server.logins.authority import Asked, BackendAuthority, make_authority
from amqp_broker.server.logins.backend import BackendFailed, Person
from amqp_broker.server.logins.failures import CannotAskBackend
from amqp_broker.server.logins.http_backend import HttpBackend
from amqp_broker.settings import Settings
from tests.support.client import PROTOCOL_HEADER, Client, publish_frames
from tests.support.managed import managing
from tests.support.memory_broker import MemoryBroker
from tests.support.mqtt_client import MqttClient
from tests.support.served import on_a_jumping_clock, until
from tests.support.stomp_client import StompClient

PASSWORD = "pässword&="


class Told:
    """A back end that answers as it is told, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuses: set[str] = set()
        self.error: BaseException | None = None

    def _says(self, question: str) -> bool:
        self.asked.append(question)
        if self.error is not None:
            raise self.error
        return question not in self.refuses

    async def authenticate(self, name: str, password: str | None, peer: Peer) -> Person | None:
        is_right = self._says(f"user {name}") and password in (None, PASSWORD)
        return Person(name, ("management",)) if is_right else None

    async def may_enter(self, person: Person, virtual_host: str, peer: Peer) -> bool:
        return self._says(f"vhost {virtual_host}")

    async def may_access(self, person: Person, virtual_host: str, kind: str, name: str, permission: str) -> bool:
        return self._says(f"{permission} {kind} {name}")

    async def may_use_topic(
        self, person: Person, virtual_host: str, exchange: str, routing_key: str, permission: str
    ) -> bool:
        of_client = "" if person.client_id is None else f" of {person.client_id}"
        return self._says(f"{permission} topic {exchange} {routing_key}{of_client}")


class Tasks:
    """Tasks that run when somebody says so: nothing of the broker waits for them."""

    def __init__(self) -> None:
        self._tasks: list[tuple[Any, tuple[Any, ...]]] = []

    def start_soon(self, task: Any, *arguments: Any) -> None:
        self._tasks.append((task, arguments))

    def run(self) -> None:
        """Run all, and those that begin meanwhile."""
        while self._tasks:
            task, arguments = self._tasks.pop(0)
            trio.run(task, *arguments)


@pytest.fixture
def tasks() -> Tasks:
    """What the back end does."""
    return Tasks()


@pytest.fixture
def told(broker: MemoryBroker, tasks: Tasks) -> Told:
    """The back end that is asked behind the broker's own users."""
    backend = Told()
    asked = Asked("told", backend, broker, broker.settings, tasks.start_soon)
    broker.driver.authority = BackendAuthority(broker, [(None, None), (asked, asked)])
    return backend


class AskingClient(Client):
    """A client for whom the back end is asked as soon as it has sent something."""

    def __init__(self, broker: MemoryBroker, tasks: Tasks) -> None:
        self._tasks = tasks
        super().__init__(broker)

    def send_bytes(self, data: bytes) -> None:
        super().send_bytes(data)
        self._tasks.run()
        self.read()


def ada(broker: MemoryBroker, tasks: Tasks) -> Client:
    """A client who was let in."""
    return AskingClient(broker, tasks).open(user="ada", password=PASSWORD)


class TestAmqp:
    def test_a_login_waits_for_the_answer_and_holds_up_nobody(
        self, broker: MemoryBroker, told: Told, tasks: Tasks
    ) -> None:
        client = Client(broker)
        client.send_bytes(PROTOCOL_HEADER)
        client.one(commands.Connection.Start)
        client.send(client.start_ok(user="ada", password=PASSWORD))
        assert not client.received()
        Client(broker).open().channel().declare("q")
        assert told.asked == []
        tasks.run()
        client.one(commands.Connection.Tune)
        assert told.asked == ["user ada"]

    def test_what_a_client_does_waits_for_its_permission(self, broker: MemoryBroker, told: Told, tasks: Tasks) -> None:
        client = ada(broker, tasks)
        channel = client.channel()
        assert told.asked == ["user ada", "vhost /"]
        told.asked.clear()
        channel.declare("q")
        assert told.asked == ["configure queue q"]
        channel.bind("q", "amq.topic", "k")
        assert told.asked[1:] == ["write queue q", "read exchange amq.topic", "read topic amq.topic k"]
        told.asked.clear()
        channel.publish("amq.topic", "k", b"one")
        channel.publish("amq.topic", "k", b"two")
        assert told.asked == ["write exchange amq.topic", "write topic amq.topic k"]
        channel.publish("", "q", b"three")
        assert told.asked[2:] == ["write exchange amq.default"]
        assert channel.drain("q") == [b"one", b"two", b"three"]
        assert told.asked[3:] == ["read queue q"]

    def test_a_publish_in_pieces_waits_before_its_content(self, broker: MemoryBroker, told: Told, tasks: Tasks) -> None:
        channel = ada(broker, tasks).channel()
        channel.declare("q")
        plain = Client(broker)
        plain.send_bytes(PROTOCOL_HEADER)
        plain.one(commands.Connection.Start)
        plain.send(plain.start_ok(user="ada", password=PASSWORD))
        plain.one(commands.Connection.Tune)  # the answer is remembered
        plain.tune_ok()
        plain.send(commands.Connection.Open("/"))
        plain.one(commands.Connection.OpenOk)
        other = plain.channel()
        method, *content = publish_frames("", "q", b"waits", 4096)
        other.send(method)
        assert plain.connection.is_reading_paused
        tasks.run()
        assert not plain.connection.is_reading_paused
        other.send(*content)
        assert channel.drain("q") == [b"waits"]

    @pytest.mark.parametrize(
        ("refused", "text"),
        [
            ("configure queue q", "configure access to queue 'q' in vhost '/' refused for user 'ada'"),
            (
                "write exchange amq.default",
                "write access to exchange 'amq.default' in vhost '/' refused for user 'ada'",
            ),
            ("read queue q", "read access to queue 'q' in vhost '/' refused for user 'ada'"),
        ],
    )
    def test_what_is_refused_is_told_as_by_the_broker_itself(
        self, broker: MemoryBroker, told: Told, tasks: Tasks, refused: str, text: str
    ) -> None:
        told.refuses.add(refused)
        channel = ada(broker, tasks).channel()
        channel.send(commands.Queue.Declare(queue="q"))
        if "configure" not in refused:
            channel.received()
            channel.publish("", "q", b"")
            channel.send(commands.Basic.Get(queue="q"))
        assert text in channel.closed_with().reply_text

    def test_who_may_not_enter_is_told(self, broker: MemoryBroker, told: Told, tasks: Tasks) -> None:
        told.refuses.add("vhost /")
        client = AskingClient(broker, tasks)
        client.start(user="ada", password=PASSWORD)
        client.tune_ok()
        client.send(commands.Connection.Open("/"))
        assert "access to vhost '/' refused for user 'ada'" in client.closed_with().reply_text

    def test_a_renewed_secret_has_all_asked_again(self, broker: MemoryBroker, told: Told, tasks: Tasks) -> None:
        channel = ada(broker, tasks).channel()
        channel.declare("q")
        channel.consume("q")
        told.refuses.add("read queue q")
        broker.advance(20_000)
        channel.client.send(commands.Connection.UpdateSecret(new_secret=PASSWORD, reason="it is time"))
        channel.client.one(commands.Connection.UpdateSecretOk)
        channel.one(commands.Basic.Cancel)


class TestOtherProtocols:
    def test_mqtt(self, broker: MemoryBroker, told: Told, tasks: Tasks) -> None:
        channel = Client(broker).open().channel()
        channel.declare("q")
        channel.bind("q", "amq.topic", "#")
        client = MqttClient(broker, "c")
        client.send(Connect(4, "c", True, user_name="ada", password=PASSWORD.encode()))
        tasks.run()
        client.publish("a", b"mqtt")
        tasks.run()
        assert channel.drain("q") == [b"mqtt"]
        assert told.asked[:2] == ["user ada", "vhost /"]
        assert "write topic amq.topic a of c" in told.asked

    def test_what_one_client_of_mqtt_may_another_may_not(self, broker: MemoryBroker, told: Told, tasks: Tasks) -> None:
        told.refuses.add("write topic amq.topic a of d")
        for client_id, is_closed in (("c", False), ("d", True)):
            client = MqttClient(broker, client_id)
            client.send(Connect(4, client_id, True, user_name="ada", password=PASSWORD.encode()))
            tasks.run()
            client.publish("a", b"mqtt")
            tasks.run()
            assert client.is_closed == is_closed

    def test_mqtt_comes_back_to_what_must_be_asked_for_again(
        self, broker: MemoryBroker, told: Told, tasks: Tasks
    ) -> None:
        for is_present in (False, True):
            client = MqttClient(broker, "c")
            client.send(Connect(4, "c", False, user_name="ada", password=PASSWORD.encode()))
            tasks.run()
            answer: Any = client.take()
            assert answer.session_present == is_present
            if not is_present:
                client.send(Subscribe(1, [Subscription("a", 1), Subscription("b", 0)]))
                tasks.run()
                client.drop()
                broker.advance(3_600_000)  # what was asked for is not remembered
        Client(broker).open().channel().publish("amq.topic", "a", b"hello")
        assert [one.payload for one in client.messages()] == [b"hello"]
        client.drop()

    def test_stomp(self, broker: MemoryBroker, told: Told, tasks: Tasks) -> None:
        channel = Client(broker).open().channel()
        channel.declare("q")
        client = StompClient(broker)
        client.send("CONNECT", login="ada", passcode=PASSWORD, host="/", **{"accept-version": "1.2"})
        tasks.run()
        client.send("SEND", b"stomp", destination="/amq/queue/q")
        tasks.run()
        assert channel.drain("q") == [b"stomp"]
        assert "write exchange amq.default" in told.asked

    def test_a_commit_waits_for_the_permissions_of_what_it_holds(
        self, broker: MemoryBroker, told: Told, tasks: Tasks
    ) -> None:
        channel = Client(broker).open().channel()
        channel.declare("q")
        client = StompClient(broker)
        client.send("CONNECT", login="ada", passcode=PASSWORD, host="/", **{"accept-version": "1.2"})
        tasks.run()
        client.read()
        client.send("BEGIN", transaction="t")
        client.send("SEND", b"stomp", destination="/amq/queue/q", transaction="t")
        client.send("COMMIT", transaction="t", receipt="r")
        assert client.read() == []
        tasks.run()
        assert [frame.headers["receipt-id"] for frame in client.read()] == ["r"]
        assert channel.drain("q") == [b"stomp"]


class TestFailing:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (BackendFailed("it is ill"), "it is ill"),
            (ZeroDivisionError("a defect"), "ZeroDivisionError: a defect"),
            (SystemExit("it gives up"), "SystemExit: it gives up"),
        ],
    )
    def test_one_that_fails_is_named_and_refuses_that_login_alone(
        self,
        broker: MemoryBroker,
        told: Told,
        tasks: Tasks,
        error: BaseException,
        reason: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        told.error = error
        client = AskingClient(broker, tasks)
        client.send_bytes(PROTOCOL_HEADER)
        client.received()
        client.send(client.start_ok(user="ada", password=PASSWORD))
        assert client.closed_with().reply_code == 403
        logged = caplog.records[0].__dict__["fields"]
        assert logged == {"backend": "told", "question": "user", "user": "ada", "reason": reason}
        Client(broker).open()
        told.error = None
        broker.advance(1001)
        ada(broker, tasks)


class TestOrder:
    def test_the_brokers_own_users_come_first_and_ask_nobody(
        self, broker: MemoryBroker, told: Told, tasks: Tasks
    ) -> None:
        Client(broker).open().channel().declare("q")
        assert told.asked == []

    def test_one_may_say_who_it_is_and_another_what_they_may_do(
        self, broker: MemoryBroker, told: Told, tasks: Tasks
    ) -> None:
        asked = Asked("told", told, broker, broker.settings, tasks.start_soon)
        broker.driver.authority = BackendAuthority(broker, [(asked, None)])
        broker.users.add("ada", "other")
        broker.users.permit_all("ada", "/")
        ada(broker, tasks).channel().declare("q")
        assert told.asked == ["user ada"]

    def test_answers_are_remembered_for_a_while(self, broker: MemoryBroker, told: Told, tasks: Tasks) -> None:
        ada(broker, tasks)
        ada(broker, tasks)
        assert told.asked == ["user ada", "vhost /"]
        broker.advance(15_001)
        ada(broker, tasks)
        assert told.asked == ["user ada", "vhost /"] * 2

    def test_a_long_name_that_nobody_has_is_not_kept(self, broker: MemoryBroker, told: Told, tasks: Tasks) -> None:
        asked, name = Asked("told", told, broker, broker.settings, tasks.start_soon), "ada" * 1_000
        broker.driver.authority = BackendAuthority(broker, [(asked, asked)])
        client = AskingClient(broker, tasks)
        client.send_bytes(PROTOCOL_HEADER)
        client.send(client.start_ok(user=name))
        assert told.asked == [f"user {name}"]
        ((_, remembered, *_),) = asked._answers
        assert len(remembered) <= 255

    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            (
                {"auth_backends": ("htpt",)},
                "auth_backends names 'htpt', which no installed package brings: did you mean",
            ),
            ({"auth_backends": ("internal", "http")}, "auth_http_user_path is not set: set it to a URL"),
            (
                {"auth_backends": ("http",), "auth_http_user_path": "localhost/user"},
                "auth_http_user_path takes a URL that begins with http:// or https://, not 'localhost/user'",
            ),
        ],
    )
    def test_mistakes_in_the_settings_are_told(
        self, broker: MemoryBroker, tasks: Tasks, settings: dict[str, Any], text: str
    ) -> None:
        with pytest.raises(CannotAskBackend) as raised:
            make_authority(broker, Settings(**settings), tasks.start_soon)
        assert text in str(raised.value)


# --- over HTTP

Answer = Callable[[str, dict[str, str]], str]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A service on the loopback that answers by path and parameters; yields its address."""

    async def serve(stream: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some()
        head, _, body = received.partition(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        if method == "POST":
            (length,) = (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            while len(body) < length:
                body += await stream.receive_some()
        parts = urlsplit(target)
        fields = {name: one[0] for name, one in parse_qs(body.decode() or parts.query).items()}
        said = answer(parts.path, fields)
        if said == "hang":
            await trio.sleep_forever()
        status = "500 Oh" if said == "fail" else "200 OK"
        await stream.send_all(f"HTTP/1.1 {status}\r\ncontent-length: {len(said)}\r\n\r\n{said}".encode())

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def http_settings(address: str, **others: Any) -> dict[str, Any]:
    """The settings of the back end http at an address."""
    paths = {f"auth_http_{one}_path": f"{address}/{one}" for one in ("user", "vhost", "resource", "topic")}
    return {"auth_backends": ("internal", "http"), **paths, **others}


@on_a_jumping_clock
@pytest.mark.parametrize("method", ["get", "post"])
async def test_a_service_is_asked_as_rabbitmqs_plugin_does(method: str) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    def answer(path: str, fields: dict[str, str]) -> str:
        asked.append((path, fields))
        return "Allow administrator  management " if path == "/user" else "allow"

    peer = Peer("10.0.0.1", 5, False)
    async with serving(answer) as address:
        backend = HttpBackend(Settings(**http_settings(address, auth_http_method=method)))
        person = await backend.authenticate("ada", PASSWORD, peer)
        assert person == Person("ada", ("administrator", "management"))
        assert await backend.may_enter(person, "/", peer)
        assert await backend.may_access(person, "/", "queue", "q", "read")
        assert await backend.may_use_topic(person, "/", "amq.topic", "a.b", "write")
        of_mqtt = replace(person, client_id="device 1")
        assert await backend.may_use_topic(of_mqtt, "/", "amq.topic", "a.b", "write")
        await backend.authenticate("ada", None, peer)
    tags = "administrator management"
    asked_of_topic = {
        "username": "ada",
        "vhost": "/",
        "resource": "topic",
        "name": "amq.topic",
        "permission": "write",
        "routing_key": "a.b",
        "tags": tags,
        "variable_map.username": "ada",
        "variable_map.vhost": "/",
    }
    assert asked == [
        ("/user", {"username": "ada", "password": PASSWORD}),
        ("/vhost", {"username": "ada", "vhost": "/", "ip": "10.0.0.1", "tags": tags}),
        (
            "/resource",
            {"username": "ada", "vhost": "/", "resource": "queue", "name": "q", "permission": "read", "tags": tags},
        ),
        ("/topic", asked_of_topic),
        ("/topic", {**asked_of_topic, "variable_map.client_id": "device 1"}),
        ("/user", {"username": "ada"}),
    ]


@on_a_jumping_clock
async def test_what_is_no_answer_is_named() -> None:
    peer = Peer("10.0.0.1", 5, False)
    said = "perhaps"
    async with serving(lambda path, fields: said) as address:
        backend = HttpBackend(Settings(**http_settings(address)))
        with pytest.raises(BackendFailed, match="answers neither allow nor deny: 'perhaps'"):
            await backend.authenticate("ada", "p", peer)
        said = "fail"
        with pytest.raises(BackendFailed, match="/vhost answers with status 500"):
            await backend.may_enter(Person("ada"), "/", peer)
        said = "deny"
        assert not await backend.may_enter(Person("ada"), "/", peer)
    with pytest.raises(BackendFailed, match="cannot be reached") as raised:
        await backend.authenticate("ada", "secret", peer)
    assert "secret" not in str(raised.value)


@on_a_jumping_clock
async def test_the_api_asks_too_and_one_who_hangs_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    def answer(path: str, fields: dict[str, str]) -> str:
        if fields["username"] == "hanging":
            return "hang"
        if path == "/user":
            return "allow monitoring" if fields["password"] == PASSWORD else "deny"
        return "allow"

    async with serving(answer) as address, managing(**http_settings(address)) as managed:
        client, hanging = await managed.administrator(), await managed.administrator()
        async with trio.open_nursery() as nursery:
            statuses: list[int] = []

            async def hang() -> None:
                statuses.append((await hanging.ask("GET", "/api/whoami", user="hanging:x")).status)

            nursery.start_soon(hang)
            me = await client.ask("GET", "/api/whoami", user=f"ada:{PASSWORD}")
            assert (me.status, me.json["name"], me.json["tags"]) == (200, "ada", ["monitoring"])
            guessing = await managed.administrator()  # a wrong guess costs the connection
            assert (await guessing.ask("GET", "/api/whoami", user="ada:wrong")).status == 401
            await guessing.stream.aclose()
            hosts = await client.ask("GET", "/api/vhosts", user=f"ada:{PASSWORD}")
            assert [host["name"] for host in hosts.json] == ["/"]
            assert (await client.ask("GET", "/api/whoami")).status == 200
            assert statuses == []
            await until(lambda: statuses == [401])
        await client.stream.aclose()
        await hanging.stream.aclose()
    logged = [record.__dict__["fields"] for record in caplog.records if record.message == "login back end failed"]
    assert logged == [{"backend": "http", "question": "user", "user": "hanging", "reason": "no answer within 5 s"}]
