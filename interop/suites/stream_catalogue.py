"""Which suites of stream clients there are. See catalogue.py, which has the others and the table of all."""

from __future__ import annotations

from interop.suites.suite import HERE, Commit, Folder, Setting, Suite

PYTEST = ("pytest==8.4.2", "pytest-timeout==2.4.0")

RSTREAM_COMMIT = Commit("https://github.com/rabbitmq-community/rstream", "b0b9f8ad47015a8a107ccb76a683230fd8dd5c14")

COUNTS_ALL = """\
    await asyncio.sleep(1)

    # check that the total number of messages have been consumed by the consumers
"""
WAITS_FOR_ALL = """\
    consumed = (consumer_stream_list1, consumer_stream_list2, consumer_stream_list3)
    await wait_for(lambda: sum(map(len, consumed)) >= 10000, timeout=60)
    await asyncio.sleep(1)

    # check that the total number of messages have been consumed by the consumers
"""

RSTREAM = Suite(
    name="rstream",
    version="1.0.1",
    source=RSTREAM_COMMIT,  # its sdist has no tests
    requirements=("rstream==1.0.1", "pytest-asyncio==1.2.0", "requests==2.32.5", *PYTEST),
    arguments=("tests",),
    environment={"GITHUB_ACTIONS": "true"},  # where it skips what asks for three nodes behind a load balancer
    settings=(
        Setting("tests/conftest.py", "default=5552)", "default={port})"),
        Setting("tests/test_consumer.py", "port=5552", "port={port}"),
        Setting("rstream/*.py", "port: int = 5552", "port: int = {port}"),  # what tests leave out
        Setting("tests/*.py", "port: int = 15672", "port: int = {management_port}"),
        # The second begins when the client has the last message; on a loaded machine it sends a third of them later.
        Setting("tests/test_consumer.py", COUNTS_ALL, WAITS_FOR_ALL),
    ),
    protocol="stream",
    explained={
        "tests.test_client::test_deliver": (
            "wants a trailer's length in the chunk's header; RabbitMQ says one and sends none, here none is said"
        ),
    },
    # They want a reconnection within seconds.
    unsteady=frozenset(
        [
            "tests.test_producer::test_producer_connection_broke",
            "tests.test_cluster::test_validate_recycle_subscriber_id",
        ]
    ),
)

RBFLY = Suite(
    name="rbfly",
    version="0.9.0",  # the last one for Python 3.11
    source=Folder(HERE / "rbfly_app"),
    requirements=("rbfly==0.9.0", "--no-binary=rbfly", *PYTEST),
    arguments=("checks.py",),
    environment={"STREAM_URL": "rabbitmq-stream://guest:guest@{host}:{port}/"},
    protocol="stream",
    test_timeout_s=60,
)

STREAM_SUITES = (RSTREAM, RBFLY)
