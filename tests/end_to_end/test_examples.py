"""Every program of examples/, run as its reader would run it, against a broker in a process of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Protocol

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Program(Protocol):
    """The part of conftest's Program that is used here."""

    lines: list[str]

    def expect(self, text: str) -> str: ...
    def finish(self) -> list[str]: ...
    def interrupt(self) -> list[str]: ...
    def kill(self) -> None: ...


class StartProgram(Protocol):
    def __call__(self, example: str, *arguments: str) -> Program: ...


def test_hello_world(start_example: StartProgram) -> None:
    assert start_example("hello_world/send.py").finish() == ["sent 'Hello World!'"]

    receiver = start_example("hello_world/receive.py")
    receiver.expect("received 'Hello World!'")
    start_example("hello_world/send.py").finish()
    receiver.expect("received 'Hello World!'")

    assert len(receiver.interrupt()) == 3


def test_work_is_shared_among_workers(start_example: StartProgram) -> None:
    workers = [start_example("work_queue/worker.py") for _ in range(2)]
    for worker in workers:
        worker.expect("waiting for jobs")

    # A worker holds one job at a time, so the second job goes to the worker that is free.
    start_example("work_queue/submit.py", "--seconds", "1", "a.jpg", "b.jpg").finish()
    started = sorted(worker.expect("started") for worker in workers)
    assert started == ["started a.jpg", "started b.jpg"]

    for worker in workers:
        worker.expect("finished")
        worker.interrupt()


def test_a_killed_workers_job_is_done_by_another(start_example: StartProgram) -> None:
    unlucky = start_example("work_queue/worker.py")
    unlucky.expect("waiting for jobs")
    start_example("work_queue/submit.py", "--seconds", "1", "forest.jpg").finish()
    unlucky.expect("started forest.jpg")
    unlucky.kill()

    worker = start_example("work_queue/worker.py")
    worker.expect("started forest.jpg once more")
    worker.expect("finished forest.jpg")
    worker.interrupt()


def test_publish_subscribe_reaches_everyone_who_listens(start_example: StartProgram) -> None:
    start_example("publish_subscribe/announce.py", "nobody", "hears", "this").finish()
    listeners = [start_example("publish_subscribe/listen.py") for _ in range(2)]
    for listener in listeners:
        listener.expect("listening")

    start_example("publish_subscribe/announce.py", "mind", "the", "gap").finish()

    for listener in listeners:
        listener.expect("heard 'mind the gap'")
        assert listener.interrupt()[1:] == ["heard 'mind the gap'"]


def test_routing_by_exact_key(start_example: StartProgram) -> None:
    small = start_example("routing/depot.py", "letter", "parcel")
    large = start_example("routing/depot.py", "freight", "parcel")
    small.expect("open for letter, parcel")
    large.expect("open for freight, parcel")

    for kind in ("letter", "freight", "elephant", "parcel"):
        start_example("routing/dispatch.py", kind, "Ada").finish()

    small.expect("loaded a parcel")
    large.expect("loaded a parcel")
    assert small.interrupt()[1:] == ["loaded a letter for Ada", "loaded a parcel for Ada"]
    assert large.interrupt()[1:] == ["loaded a freight for Ada", "loaded a parcel for Ada"]


def test_topics_by_pattern(start_example: StartProgram) -> None:
    czech = start_example("topics/display.py", "cz.#")
    temperatures = start_example("topics/display.py", "*.*.temperature")
    both = start_example("topics/display.py", "cz.#", "*.*.temperature")
    displays = (czech, temperatures, both)
    for display in displays:
        display.expect("showing")

    for key in ("cz.brno.temperature", "at.wien.temperature", "cz.brno.wind", "cz", "at.wien.wind"):
        start_example("topics/measure.py", key, "7").finish()
    start_example("topics/measure.py", "cz.end.temperature", "0").finish()

    for display in displays:
        display.expect("cz.end.temperature is 0")
    assert [line.split()[0] for line in czech.interrupt()[1:-1]] == ["cz.brno.temperature", "cz.brno.wind", "cz"]
    assert [line.split()[0] for line in temperatures.interrupt()[1:-1]] == [
        "cz.brno.temperature",
        "at.wien.temperature",
    ]
    assert [line.split()[0] for line in both.interrupt()[1:-1]] == [
        "cz.brno.temperature",
        "at.wien.temperature",
        "cz.brno.wind",
        "cz",
    ]


def test_rpc(start_example: StartProgram) -> None:
    server = start_example("rpc/server.py")
    server.expect("waiting for questions")

    assert start_example("rpc/client.py", "21.5", "-40", "100").finish() == [
        "21.5 C is 70.7 F",
        "-40 C is -40 F",
        "100 C is 212 F",
    ]

    server.expect("answered 100 -> 212")
    server.interrupt()


def test_publisher_confirms_one_at_a_time(start_example: StartProgram) -> None:
    assert start_example("publisher_confirms/publish.py").finish() == [
        "message 1: the broker has it",
        "message 2: the broker has it",
        "message 3: refused, the queue is full",
        "message 4: came back, NO_ROUTE",
    ]


def test_publisher_confirms_of_many_messages(start_example: StartProgram) -> None:
    lines = start_example("publisher_confirms/publish_many.py", "--messages", "3000", "--in-flight", "100").finish()

    assert lines[0] == "3000 of 3000 confirmed, 0 refused"


def test_registration_does_not_wait_for_its_sms(start_example: StartProgram) -> None:
    # No SMS sender runs, and the registrations are done all the same.
    assert start_example("registration_sms/register.py", "Ada", "+1").finish() == ["Ada is registered"]
    assert start_example("registration_sms/register.py", "Grace", "+2").finish() == ["Grace is registered"]

    sender = start_example("registration_sms/sms_sender.py", "--gateway-ms", "1", "--gateway-fails", "1")
    sender.expect("sent to +2: Welcome, Grace!")
    assert sender.interrupt()[1:] == [
        "the gateway failed, will try +1 again",
        "sent to +1: Welcome, Ada!",
        "sent to +2: Welcome, Grace!",
    ]


@pytest.mark.slow
def test_peak_shaving_settles_a_burst_of_readings_at_a_steady_pace(start_example: StartProgram) -> None:
    sent = start_example("peak_shaving/gates.py", "--readings", "10000").finish()[0]
    assert sent.startswith("10000 readings sent")

    pace = 5_000
    opening, totals, rate = start_example(
        "peak_shaving/settle.py", "--per-second", str(pace), "--total", "10000"
    ).finish()

    assert opening.endswith("readings are waiting, 5000 a second will be settled")
    assert totals.startswith("10000 readings of 20 gates settled")
    # The first batch is settled at once, hence a batch more than the pace allows.
    assert int(rate.split()[0]) <= pace * 1.1


def test_message_bus_carries_an_order_through_all_services(start_example: StartProgram) -> None:
    services = {
        name: start_example(f"message_bus/{name}_service.py") for name in ("create", "split", "ticket", "payout")
    }
    watcher = start_example("message_bus/watch.py")
    for name, service in services.items():
        service.expect(f"{name} service is ready")
    watcher.expect("watching")

    start_example("message_bus/place_order.py", "order-1", "opera:2", "railway:1").finish()

    payouts = [json.loads(watcher.expect("payout.made").split(maxsplit=1)[1]) for _ in range(2)]
    assert sorted(payouts, key=lambda payout: payout["supplier"]) == [
        {"order": "order-1", "supplier": "opera", "amount": 50},
        {"order": "order-1", "supplier": "railway", "amount": 25},
    ]
    services["ticket"].expect("issued order-1-opera-1 order-1-opera-2")
    services["ticket"].expect("issued order-1-railway-1")
    keys = [line.split()[0] for line in watcher.interrupt()[1:]]
    assert sorted(keys) == [
        "order.created",
        "order.part.opera",
        "order.part.railway",
        "order.requested",
        "payout.made.opera",
        "payout.made.railway",
        "ticket.issued.opera",
        "ticket.issued.railway",
    ]
    for service in services.values():
        service.interrupt()


def test_an_unpaid_order_is_cancelled_after_its_deadline(start_example: StartProgram) -> None:
    service = start_example("unpaid_order/order_service.py")
    service.expect("keeping an eye")

    start_example("unpaid_order/pay.py", "order-1").finish()
    service.expect("order-1 is paid")
    start_example("unpaid_order/place_order.py", "order-1", "--deadline-ms", "100").finish()
    start_example("unpaid_order/place_order.py", "order-2", "--deadline-ms", "100").finish()

    service.expect("order-1 was paid in time")
    service.expect("order-2 is cancelled: expired in orders.waiting.100")
    service.interrupt()


def test_an_unpaid_order_is_cancelled_by_a_delayed_message(start_example: StartProgram) -> None:
    service = start_example("unpaid_order_delayed/order_service.py")
    service.expect("keeping an eye")

    start_example("unpaid_order/pay.py", "order-1").finish()
    service.expect("order-1 is paid")
    start_example("unpaid_order_delayed/place_order.py", "order-1", "--deadline-ms", "100").finish()
    start_example("unpaid_order_delayed/place_order.py", "order-2", "--deadline-ms", "200").finish()

    service.expect("order-1 was paid in time")
    service.expect("order-2 is cancelled: not paid within 200 ms")
    service.interrupt()


def test_every_example_is_in_the_index_and_run_here() -> None:
    index = (EXAMPLES / "README.md").read_text()
    tests = Path(__file__).read_text()
    programs = [path for path in EXAMPLES.glob("*/*.py") if path.name != "bus.py"]
    assert programs

    for program in programs:
        assert f"({program.parent.name})" in index, program
        assert f"`{program.name}`" in index, program
        if program.parent.name == "cluster":
            continue  # needs etcd
        run_by_pattern = re.search(rf"{program.parent.name}/\{{name\}}_service\.py", tests)
        assert f"{program.parent.name}/{program.name}" in tests or run_by_pattern, program


def test_every_example_says_what_it_shows_and_how_to_run_it() -> None:
    for program in EXAMPLES.glob("*/*.py"):
        text = program.read_text()
        assert text.startswith('"""'), program
        assert f"python {program.name}" in text or program.name == "bus.py", program
