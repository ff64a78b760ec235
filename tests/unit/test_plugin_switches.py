"""Plugins that an operator switches on and off: interceptors of messages, observers, exchange types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from amqp_broker.broker.problems import AdministrationError
from amqp_broker.cli.plugins import application
from amqp_broker.protocols.mqtt.reasons import Reason
from amqp_broker.server.control_commands import Controlled
from amqp_broker.server.plugin_choices import BadChoices, read_choices, write_choices
from amqp_broker.server.plugin_commands import PLUGIN_COMMANDS
from amqp_broker.server.plugins import Plugins
from tests.support.client import Client, ClientChannel
from tests.support.managed import managing
from tests.support.memory_broker import MemoryBroker
from tests.support.mqtt_client import MqttClient
from tests.support.served import on_a_jumping_clock
from tests.support.stomp_client import StompClient

MODULE = """
from amqp_broker.broker.observer import Onlooker
from amqp_broker.errors import precondition_failed

class Stamp:
    def __init__(self, broker):
        pass
    def incoming(self, message):
        if message.body == b"fail":
            raise ZeroDivisionError("at a message")
        if message.body == b"refuse":
            raise precondition_failed(f"{message.user_name} may not")
        if message.body == b"nonsense":
            message.properties.headers = {"x": object()}
            return
        where = f"{message.virtual_host} {message.exchange} {message.routing_key}"
        message.properties.headers = {**(message.properties.headers or {}), "stamp": where}

class Seen(Onlooker):
    of_messages = True
    def __init__(self, broker):
        self.broker = broker
    def published(self, channel, passage):
        if passage.body == b"fail":
            raise ZeroDivisionError("at a publish")
        self.broker.seen.append(passage.body)

class NotMade:
    def __init__(self, broker):
        raise ZeroDivisionError("in the beginning")

class GivesUp:
    def __init__(self, broker):
        raise SystemExit("set HOME")
"""

ENTRY_POINTS = """
[amqp_broker.interceptors]
stamp = test_kinds:Stamp
not-made = test_kinds:NotMade
gives-up = test_kinds:GivesUp
not-there = no_such_module:Stamp

[amqp_broker.observers]
seen = test_kinds:Seen
"""


@pytest.fixture(autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with plugins of several kinds."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "test_kinds.py").write_text(MODULE)
    metadata = folder / "test_kinds-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: test-kinds\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(folder))


@pytest.fixture
def plugins(broker: MemoryBroker, tmp_path: Path) -> Plugins:
    """Those of the broker."""
    return Plugins(broker, tmp_path)


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel."""
    channel = Client(broker).open().channel()
    channel.declare("q")
    return channel


def headers_of_next(channel: ClientChannel, queue: str = "q") -> dict[str, Any]:
    """The headers of the message that comes next."""
    received = channel.get(queue, no_ack=True)
    assert received is not None
    return received.headers


class TestInterceptors:
    def test_messages_are_changed_on_their_way_in(self, plugins: Plugins, channel: ClientChannel) -> None:
        channel.publish("", "q", b"before")
        assert plugins.switch("stamp", True) == "interceptor"
        channel.publish("", "q", b"one")
        assert plugins.names == ["stamp"]
        plugins.switch("stamp", False)
        channel.publish("", "q", b"after")
        assert "stamp" not in headers_of_next(channel)
        assert headers_of_next(channel)["stamp"] == "/  q"
        assert "stamp" not in headers_of_next(channel)

    def test_they_come_before_the_route(self, plugins: Plugins, channel: ClientChannel) -> None:
        channel.exchange("x", "headers")
        channel.bind("q", "x", "", {"stamp": "/ x k"})
        channel.publish("x", "k", b"")
        plugins.switch("stamp", True)
        channel.publish("x", "k", b"")
        assert channel.message_count("q") == 1

    def test_other_protocols_are_intercepted_as_well(self, broker: MemoryBroker, plugins: Plugins) -> None:
        channel = Client(broker).open().channel()
        channel.declare("q")
        channel.bind("q", "amq.topic", "#")
        plugins.switch("stamp", True)
        mqtt = MqttClient(broker)
        mqtt.connect(will=None)
        mqtt.publish("a/b", b"mqtt")
        assert headers_of_next(channel)["stamp"] == "/ amq.topic a.b"
        stomp = StompClient(broker)
        stomp.connect(login="guest", passcode="guest")
        stomp.send("SEND", b"stomp", destination="/exchange/amq.topic/c")
        assert headers_of_next(channel)["stamp"] == "/ amq.topic c"

    def test_a_client_of_mqtt_is_not_told_that_it_lacks_a_permission(
        self, plugins: Plugins, broker: MemoryBroker
    ) -> None:
        plugins.switch("stamp", True)
        mqtt = MqttClient(broker, "c", 5)
        mqtt.connect()
        mqtt.publish("a", b"refuse", 1)
        assert getattr(mqtt.take(), "reason", None) == Reason.IMPLEMENTATION_SPECIFIC_ERROR

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"refuse", "PRECONDITION_FAILED - guest may not"),
            (b"fail", "interceptor 'stamp' of test-kinds 1.0 failed at a message: ZeroDivisionError: at a message"),
            (b"nonsense", "has left properties that are none"),
        ],
    )
    def test_what_one_refuses_or_fails_at_is_refused_to_its_publisher_alone(
        self, broker: MemoryBroker, plugins: Plugins, channel: ClientChannel, body: bytes, text: str
    ) -> None:
        plugins.switch("stamp", True)
        other = Client(broker).open().channel()
        channel.publish("", "q", body)
        assert text in channel.closed_with().reply_text
        other.publish("", "q", b"fine")
        assert other.message_count("q") == 1

    def test_those_in_the_box_leave_what_the_message_says(
        self, broker: MemoryBroker, plugins: Plugins, channel: ClientChannel
    ) -> None:
        plugins.switch("set_header_timestamp", True)
        plugins.switch("set_header_routing_node", True)
        channel.publish("", "q", b"")
        received = channel.get("q", no_ack=True)
        assert received is not None
        now_ms = broker.clock.wall_ms()
        assert received.headers == {"timestamp_in_ms": now_ms, "x-routed-by": "amqp-broker@localhost"}
        channel.publish("", "q", b"", headers={"timestamp_in_ms": 1, "x-routed-by": "me"})
        assert headers_of_next(channel) == {"timestamp_in_ms": 1, "x-routed-by": "me"}


class TestObservers:
    def test_one_sees_messages_while_it_is_on(
        self, broker: MemoryBroker, plugins: Plugins, channel: ClientChannel
    ) -> None:
        seen: list[bytes] = []
        broker.seen = seen  # type: ignore[attr-defined]
        plugins.switch("seen", True)
        plugins.switch("seen", True)
        channel.publish("", "q", b"one")
        plugins.switch("seen", False)
        assert not broker.observers.present
        channel.publish("", "q", b"two")
        assert seen == [b"one"]


class TestExchangeTypes:
    def test_nobody_can_declare_one_of_a_type_that_is_off(
        self, broker: MemoryBroker, plugins: Plugins, channel: ClientChannel
    ) -> None:
        channel.exchange("there", "x-random")
        channel.bind("q", "there")
        plugins.switch("x-random", False)
        assert "x-random" not in broker.exchange_types.names
        assert "x-random" not in broker.exchange_types.brought
        channel.publish("there", "k", b"what is there goes on")
        assert channel.message_count("q") == 1
        plugins.switch("x-random", True)
        channel.exchange("new", "x-random")
        plugins.switch("x-random", False)
        with pytest.raises(AssertionError):
            channel.exchange("newer", "x-random")


class TestStart:
    def test_what_was_chosen_holds_at_the_next_start(
        self, broker: MemoryBroker, plugins: Plugins, channel: ClientChannel, tmp_path: Path
    ) -> None:
        write_choices(tmp_path, {"stamp": True, "x-random": False, "seen": False})
        plugins.start()
        channel.publish("", "q", b"")
        assert headers_of_next(channel)["stamp"] == "/  q"
        assert plugins.names == ["stamp"]
        assert "x-random" not in broker.exchange_types

    def test_those_that_fail_are_named_and_the_others_are_on(
        self, plugins: Plugins, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_choices(tmp_path, {"gone": True, "not-made": True, "not-there": True, "stamp": True})
        plugins.start()
        assert plugins.names == ["stamp"]
        logged = [record.__dict__["fields"] for record in caplog.records]
        assert [fields.get("type") or fields["plugin"] for fields in logged] == ["gone", "not-made", "not-there"]
        assert logged[1]["reason"] == "ZeroDivisionError: in the beginning"

    @pytest.mark.parametrize("content", ["{", "[]", '{"a": true}', "\xff"])
    def test_a_file_that_is_none_is_named(
        self, plugins: Plugins, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "enabled_plugins").write_text(content, encoding="latin-1")
        plugins.start()
        assert plugins.names == []
        assert str(tmp_path / "enabled_plugins") in caplog.records[0].__dict__["fields"]["reason"]
        with pytest.raises(BadChoices):
            read_choices(tmp_path)
        with pytest.raises(BadChoices):
            plugins.switch("stamp", True)
        assert plugins.names == []


class TestMistakes:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("stmap", "did you mean stamp?"),
            ("zzz", "'amqp-broker plugins list' shows"),
            ("not-there", "interceptor 'not-there' of test-kinds 1.0 cannot be loaded from no_such_module:Stamp"),
            ("not-made", "could not be made: ZeroDivisionError"),
            ("gives-up", "could not be made: SystemExit: set HOME"),
        ],
    )
    def test_what_cannot_be_switched_on_is_refused_and_not_remembered(
        self, plugins: Plugins, tmp_path: Path, name: str, text: str
    ) -> None:
        with pytest.raises(AdministrationError, match=text.replace("?", r"\?")):
            plugins.switch(name, True)
        assert read_choices(tmp_path) == {}

    def test_what_is_not_installed_any_more_can_be_switched_off(self, plugins: Plugins, tmp_path: Path) -> None:
        write_choices(tmp_path, {"gone": True, "stamp": False})
        plugins.switch("gone", False)
        assert read_choices(tmp_path) == {"stamp": False}


class TestCommandLine:
    def run(self, folder: Path, *arguments: str) -> tuple[int, str]:
        """Run a command with a data folder where no broker runs."""
        result = CliRunner().invoke(application, [*arguments, "--data-dir", str(folder)])
        return result.exit_code, result.output

    def test_without_a_broker_the_choice_is_for_its_next_start(self, tmp_path: Path) -> None:
        folder = tmp_path / "new"
        assert self.run(folder, "enable", "stamp") == (0, "interceptor stamp is on from the broker's next start\n")
        assert read_choices(folder) == {"stamp": True}
        code, output = self.run(folder, "disable", "x-random", "--json")
        assert code == 0
        assert json.loads(output) == {"name": "x-random", "kind": "exchange type", "state": "off", "from": "next start"}
        listed = json.loads(self.run(folder, "list", "--check", "--json")[1])
        states = {row["name"]: row["state"] for row in listed}
        assert states["stamp"] == "on"
        assert states["x-random"] == "off"
        assert states["x-modulus-hash"] == "on"
        assert states["seen"] == "off"
        checks = {row["name"]: row["check"] for row in listed}
        assert checks["stamp"] == "loads"
        assert "no_such_module" in checks["not-there"]

    def test_mistakes_are_told(self, tmp_path: Path) -> None:
        code, output = self.run(tmp_path, "enable", "stmap")
        assert code != 0
        assert "did you mean stamp?" in output
        assert self.run(tmp_path, "enable", "not-there")[0] == code
        assert not (tmp_path / "enabled_plugins").exists()
        write_choices(tmp_path, {"gone": True})
        assert self.run(tmp_path, "disable", "gone") == (0, "plugin gone is off from the broker's next start\n")
        assert read_choices(tmp_path) == {}


@on_a_jumping_clock
async def test_a_broker_that_runs_switches_at_once_and_shows_it(tmp_path: Path) -> None:
    write_choices(tmp_path, {"stamp": True})
    async with managing(tmp_path) as managed:
        client = await managed.administrator()
        node = (await client.ask("GET", "/api/nodes")).json[0]
        assert {"rabbitmq_management", "stamp", "x-random"} <= set(node["enabled_plugins"])
        controlled = Controlled(managed.broker, status=None, who="ada", plugins=lambda: managed.server.plugins)  # type: ignore[arg-type]
        assert await PLUGIN_COMMANDS["plugins.disable"](controlled, {"name": "stamp"}) == "interceptor"
        assert not managed.broker.interceptors.present
        node = (await client.ask("GET", "/api/nodes")).json[0]
        assert "stamp" not in node["enabled_plugins"]
        assert read_choices(tmp_path) == {"stamp": False}
        await client.stream.aclose()
