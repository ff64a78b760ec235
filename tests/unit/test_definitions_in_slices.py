"""An import that is made in slices: it counts at once and as a whole, whatever others do meanwhile and whenever the
broker is killed. What is imported at all is in ``test_definitions.py``, any order of what others do in
``tests/properties/test_import_model.py``.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import trio
import trio.testing
from pamqp import commands

from amqp_broker.broker.definitions import applying, making, reading
from amqp_broker.broker.definitions.applying import DefinitionsImport, import_definitions
from amqp_broker.broker.definitions.reading import NotImported
from amqp_broker.broker.exchanges.matcher import Matcher
from amqp_broker.broker.problems import NotThere
from amqp_broker.cli.journal import _described
from amqp_broker.errors import precondition_failed
from amqp_broker.journal.dump import dump
from amqp_broker.server import importing
from amqp_broker.server.control_commands import Controlled, import_into
from amqp_broker.server.importing import JsonReader, read_json_in_turns
from tests.support.client import ClientChannel
from tests.support.disk_broker import DiskBroker
from tests.support.managed import managing
from tests.support.served import on_a_jumping_clock

QUEUES = [f"q{number}" for number in range(10)]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thing is a slice, and three share a record."""
    monkeypatch.setattr(reading, "SLICE_READ", 1)
    monkeypatch.setattr(applying, "TOGETHER_MAX", 3)
    monkeypatch.setattr(making, "SLICE_MADE", 1)


def document(*, host: str = "/", queues: list[str] | None = None, kind: str = "direct") -> dict[str, Any]:
    """An exchange, and queues bound to it."""
    names = QUEUES if queues is None else queues
    ends = {"source": "x", "destination_type": "queue", "arguments": {}}
    return {
        "vhosts": [{"name": host}],
        "exchanges": [{"name": "x", "vhost": host, "type": kind, "durable": True}],
        "queues": [{"name": name, "vhost": host, "durable": True, "arguments": {}} for name in names],
        "bindings": [{"vhost": host, "destination": name, "routing_key": name, **ends} for name in names],
    }


def begun(broker: DiskBroker, steps: int, what: dict[str, Any] | None = None) -> DefinitionsImport:
    """An import of which so many things are made, and what it says is on the disk."""
    definitions = DefinitionsImport(broker, what or document(), who="a test")
    for _ in definitions.check():
        pass
    broker.goes_on = False
    broker.handle(definitions.begin)
    take(broker, steps - 1)
    return definitions


def take(broker: DiskBroker, steps: int) -> None:
    for _ in range(steps):
        broker.go_on()


def finish(broker: DiskBroker) -> None:
    """Make the rest."""
    broker.goes_on = True
    broker.settle()
    assert broker.virtual_hosts.get("/") is None or broker.virtual_host.pending is None


def routed(broker: DiskBroker) -> list[str]:
    """The queues that are bound."""
    return sorted(one.destination.name for one in broker.virtual_host.exchange("x").bindings.values())


def each_end(broker: DiskBroker) -> Iterator[DiskBroker]:
    """One that was killed before all is made, the broker when it is, and one that was killed then."""
    yield DiskBroker(copy.deepcopy(broker.files), broker.clock)
    finish(broker)
    yield broker
    yield broker.killed()


def channel_of(broker: DiskBroker) -> ClientChannel:
    return broker.client().channel()


# --- whole or not there


@pytest.mark.parametrize("steps", range(1, 22))
def test_killed_in_any_slice_it_is_whole(steps: int) -> None:
    broker = DiskBroker()
    begun(broker, steps)
    for after in each_end(broker):
        assert sorted(after.virtual_host.queues) == QUEUES
        assert routed(after) == QUEUES


def test_a_password_is_hashed_before_it_counts_and_one_is_a_slice() -> None:
    broker = DiskBroker()
    users = [{"name": f"u{number}", "tags": "", "password": "secret"} for number in range(2)]
    documents: list[dict[str, Any]] = [{"users": users[:count]} for count in (1, 2)]
    one, two = (len(list(DefinitionsImport(broker, each, who="a test").check())) for each in documents)
    assert two == one + 2  # it is read in one, and hashed in another
    broker.handle(lambda: import_definitions(broker, documents[0], who="a test"))
    user = broker.users.get("u0")
    assert user is not None
    assert user.password_hash.matches(b"secret")


def test_killed_before_it_is_written_nothing_is_there() -> None:
    broker = DiskBroker()
    with broker.holding_writes():
        begun(broker, 5)
        after = broker.killed()
    assert list(after.virtual_host.queues) == []
    assert "x" not in after.virtual_host.exchanges


def test_what_is_made_is_deleted_for_good_one_by_one() -> None:
    broker = DiskBroker()
    before = broker.live_records()
    broker.handle(lambda: import_definitions(broker, document(), who="a test"))
    for name in QUEUES[::2]:
        channel_of(broker).call(commands.Queue.Delete(queue=name))
    for after in (broker.killed(), broker.restarted()):
        assert sorted(after.virtual_host.queues) == routed(after) == QUEUES[1::2]
    channel = channel_of(after)
    for name in QUEUES[1::2]:
        channel.call(commands.Queue.Delete(queue=name))
    channel.call(commands.Exchange.Delete(exchange="x"))
    assert after.live_records() == before


def test_what_is_not_durable_is_made_and_not_kept() -> None:
    broker = DiskBroker()
    what = document()
    what["queues"][0]["durable"] = False
    before = broker.live_records()
    broker.handle(lambda: import_definitions(broker, what, who="a test"))
    assert routed(broker) == QUEUES
    assert broker.live_records() == before + 1 + 9 + 9
    assert routed(broker.killed()) == QUEUES[1:]


def test_a_dump_of_the_journal_says_what_was_imported() -> None:
    broker = DiskBroker()
    broker.handle(lambda: import_definitions(broker, document(queues=["q"]), who="a test"))
    lines = "\n".join(dump(broker.files, lambda kind, payload: _described(kind, payload, False)))
    assert "definitions: exchange {'virtual_host': '/', 'name': 'x'" in lines
    assert ", queue {'virtual_host': '/', 'name': 'q'" in lines
    assert ", binding {'virtual_host': '/', 'source': 'x'" in lines


# --- what others do meanwhile


def test_who_declares_what_is_not_made_yet_finds_it() -> None:
    broker = DiskBroker()
    begun(broker, 3)
    channel = channel_of(broker)
    channel.call(commands.Queue.Declare(queue="q9", durable=True))
    channel.call(commands.Exchange.Declare(exchange="x", exchange_type="direct", durable=True))
    channel.publish("", "q9", b"kept", delivery_mode=2)
    for after in each_end(broker):
        assert routed(after) == QUEUES
        assert after.queue("q9").ready_count == 1


def test_who_declares_it_otherwise_is_refused() -> None:
    broker = DiskBroker()
    begun(broker, 1)
    channel = channel_of(broker)
    channel.send(commands.Queue.Declare(queue="q9", durable=False))
    assert "inequivalent arg 'durable' for queue 'q9'" in str(channel.closed_with().reply_text)


@pytest.mark.parametrize("was_durable", [True, False])
@pytest.mark.parametrize("is_durable", [True, False])
def test_what_is_deleted_takes_along_what_the_import_says_of_it(was_durable: bool, is_durable: bool) -> None:
    broker = DiskBroker()
    what = document()
    what["queues"][2]["durable"] = was_durable
    begun(broker, 11, what)  # all queues are made, and no binding
    channel = channel_of(broker)
    channel.call(commands.Queue.Delete(queue="q1"))
    channel.call(commands.Queue.Delete(queue="q2"))
    channel.call(commands.Queue.Declare(queue="q2", durable=is_durable))
    for after in each_end(broker):
        assert {*after.virtual_host.queues} | {"q2"} == {*QUEUES} - {"q1"}
        assert routed(after) == sorted({*QUEUES} - {"q1", "q2"})


def test_a_source_that_is_declared_again_gets_nothing_of_what_the_import_says() -> None:
    broker = DiskBroker()
    begun(broker, 14)  # three bindings are made
    assert routed(broker) == QUEUES[:3]
    channel = channel_of(broker)
    channel.call(commands.Exchange.Delete(exchange="x"))
    channel.call(commands.Exchange.Declare(exchange="x", exchange_type="direct"))
    finish(broker)
    assert routed(broker) == []


def test_who_deletes_or_binds_what_is_not_made_yet_is_told_that_it_is_not_there() -> None:
    broker = DiskBroker()
    begun(broker, 1)
    channel_of(broker).call(commands.Queue.Delete(queue="q9"))
    channel = channel_of(broker)
    channel.send(commands.Queue.Bind(queue="q9", exchange="amq.direct"))
    assert channel.closed_with().reply_code == 404
    for after in each_end(broker):
        assert routed(after) == QUEUES


def test_a_virtual_host_that_is_deleted_stays_deleted() -> None:
    broker = DiskBroker()
    before = broker.live_records()
    begun(broker, 4, document(host="v"))
    broker.handle(lambda: broker.administration.delete_virtual_host("v"))
    for after in each_end(broker):
        assert list(after.virtual_hosts) == ["/"]
        assert after.live_records() == before


def test_a_virtual_host_that_is_made_anew_gets_nothing_of_it() -> None:
    broker = DiskBroker()
    begun(broker, 4, document(host="v"))
    broker.handle(lambda: broker.administration.delete_virtual_host("v"))
    broker.handle(lambda: broker.administration.add_virtual_host("v"))
    for after in each_end(broker):
        assert list(after.virtual_hosts["v"].queues) == []


def test_what_was_declared_while_it_was_checked_stays() -> None:
    broker = DiskBroker()
    definitions = DefinitionsImport(broker, document(), who="a test")
    for _ in definitions.check():
        pass
    channel = channel_of(broker)
    channel.call(commands.Queue.Declare(queue="q5", durable=True, arguments={"x-max-length": 7}))
    channel.publish("", "q5", b"kept", delivery_mode=2)
    broker.goes_on = False
    broker.handle(definitions.begin)
    for after in each_end(broker):
        assert (after.queue("q5").table, after.queue("q5").ready_count) == ({"x-max-length": 7}, 1)
        assert routed(after) == QUEUES


@pytest.mark.parametrize("durable", [True, False])
def test_an_end_that_became_another_while_it_was_checked(durable: bool) -> None:
    broker = DiskBroker()
    channel = channel_of(broker)
    channel.call(commands.Queue.Declare(queue="old", durable=not durable))
    what = document()
    what["bindings"].append({**what["bindings"][0], "destination": "old", "routing_key": "old"})
    definitions = DefinitionsImport(broker, what, who="a test")
    for _ in definitions.check():
        pass
    channel.call(commands.Queue.Delete(queue="old"))
    channel.call(commands.Queue.Declare(queue="old", durable=durable))
    broker.handle(definitions.begin)
    assert routed(broker) == ["old", *QUEUES]
    assert routed(broker.killed()) == (["old", *QUEUES] if durable else QUEUES)


def test_what_it_needs_and_was_deleted_while_it_was_checked() -> None:
    broker = DiskBroker()
    broker.handle(lambda: broker.administration.add_virtual_host("v"))
    broker.administration.add_user("ann", "secret", ())
    permission = {"user": "ann", "vhost": "/", "configure": "", "write": "", "read": ""}
    in_host = {key: value for key, value in document(host="v").items() if key != "vhosts"}
    cases: list[tuple[dict[str, Any], Callable[[], object], str]] = [
        ({"permissions": [permission]}, lambda: broker.administration.delete_user("ann"), "user 'ann'"),
        (in_host, lambda: broker.administration.delete_virtual_host("v"), "virtual host 'v'"),
    ]
    for what, delete, text in cases:
        definitions = DefinitionsImport(broker, what, who="a test")
        for _ in definitions.check():
            pass
        delete()
        before = broker.live_records()
        with pytest.raises(NotImported, match=f"{text} was deleted meanwhile"):
            broker.handle(definitions.begin)
        assert broker.live_records() == before


def test_one_waits_for_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "amqp_broker")
    broker = DiskBroker()
    first = begun(broker, 4)
    second = DefinitionsImport(broker, document(queues=["q8", "q9", "more"]), who="a test")
    for _ in second.check():
        pass
    work = second.waits_for()
    assert work is not None
    take(broker, 30)
    assert work.is_done
    assert second.waits_for() is None
    broker.handle(second.begin)
    finish(broker)
    assert (first.counts["queues"], second.counts["queues"], second.counts["bindings"]) == (10, 1, 1)
    assert routed(broker) == routed(broker.killed()) == ["more", *QUEUES]
    assert caplog.text.count("definitions imported") == 2


def test_who_waits_for_it_hears_that_it_goes_on() -> None:
    broker, heard = DiskBroker(), list[object]()

    async def tell(progress: Mapping[str, Any]) -> None:
        heard.append(progress)
        finish(broker)

    async def use() -> dict[str, int]:
        broker.goes_on = False
        controlled = Controlled(broker, lambda: pytest.fail("nobody asks"), "a test", tell)
        return await import_into(controlled, {"definitions": document()})

    assert trio.run(use, clock=trio.testing.MockClock(autojump_threshold=0))["queues"] == 10
    assert heard == [{}]


def test_one_that_does_not_wait_finishes_the_other() -> None:
    broker = DiskBroker()
    first = begun(broker, 4)
    broker.handle(lambda: import_definitions(broker, document(queues=["q9", "more"]), who="a test"))
    assert routed(broker) == routed(broker.killed()) == ["more", *QUEUES]
    finish(broker)
    assert first.counts["bindings"] == 10


def test_what_a_type_refuses_all_the_same_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Changing(Matcher):  # DirectMatcher is compiled, and not open to subclasses
        refuses = False

        def __init__(self, arguments: Any) -> None:
            super().__init__(arguments)
            if self.refuses:
                raise precondition_failed("not today")

    broker = DiskBroker()
    broker.exchange_types.register("changing", Changing)
    definitions = DefinitionsImport(broker, document(kind="changing"), who="a test")
    for _ in definitions.check():
        pass
    Changing.refuses = True
    before = broker.live_records()
    broker.handle(definitions.begin)
    (left_out,) = [record for record in caplog.records if record.getMessage() == "definition left out"]
    assert "not today" in str(left_out.__dict__["fields"])
    assert sorted(broker.virtual_host.queues) == QUEUES
    assert broker.live_records() == before + len(QUEUES)


def test_the_virtual_host_that_it_goes_into_was_deleted() -> None:
    broker = DiskBroker()
    broker.handle(lambda: broker.administration.add_virtual_host("v"))
    definitions = DefinitionsImport(broker, document(), "v", who="a test")
    for _ in definitions.check():
        pass
    broker.handle(lambda: broker.administration.delete_virtual_host("v"))
    with pytest.raises(NotThere):
        broker.handle(definitions.begin)


# --- while others have their turn


class Turns(trio.abc.Instrument):
    """How often the tasks of the server had their turn."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


@on_a_jumping_clock
async def test_others_have_their_turn_while_it_is_read_checked_and_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "SLICE_CHARACTERS", 100)
    async with managing() as managed:
        client = await managed.administrator()
        turns = Turns()
        trio.lowlevel.add_instrument(turns)
        reply = await client.ask("POST", "/api/definitions", document())
        trio.lowlevel.remove_instrument(turns)
        await client.stream.aclose()
        assert reply.status == 204
        assert sorted(managed.server.broker.virtual_hosts["/"].queues) == QUEUES
        assert turns.count > 3 * 2 * len(QUEUES), "one for each when it is read, when it is checked, when it is made"


# --- JSON in slices


def read_in_slices(text: str, depth: int) -> object:
    reader = JsonReader(text)
    for _ in reader.steps(depth):
        pass
    return reader.value


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize(
    "value", [{}, [], "é", 1.5, None, {"a": []}, {"a": [1, {"b": [[]]}], "c": {"d": {}}}, [[], [[], {}], "]"], {"": 0}]
)
@pytest.mark.parametrize("indent", [None, 1])
def test_json_in_slices_is_the_same(value: object, depth: int, indent: int | None) -> None:
    assert read_in_slices(f" {json.dumps(value, indent=indent)}\n", depth) == value


WRONG = [
    "",
    " ",
    "[",
    "{",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    '{"a"}',
    '{"a":}',
    '{"a":1,}',
    "{1:2}",
    '{"a":1 "b":2}',
]


@pytest.mark.parametrize("text", [*WRONG, "[] []", "nul", '{"a" 1}'])
def test_json_in_slices_that_is_none(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        read_in_slices(text, 3)


def test_the_mistake_in_json_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "SLICE_CHARACTERS", 1)
    texts: list[str | bytes] = [*WRONG, b'{"a": "\xff"}', "[" * 100_000]
    for text in texts:
        with pytest.raises((ValueError, RecursionError)) as expected:
            json.loads(text)
        with pytest.raises(expected.type, match=None) as found:
            trio.run(read_json_in_turns, text, 2)
        assert str(found.value) == str(expected.value)
    assert trio.run(read_json_in_turns, '{"a": 1, "a": 2}'.encode("utf-16"), 2) == {"a": 2}
