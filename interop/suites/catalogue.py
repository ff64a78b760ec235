"""Which suites of AMQP clients there are, and the table of all of them.

Every archive is pinned by version and hash, every package of a suite's environment by version. Not here: suites of
AMQP 1.0, MQTT, STOMP and stream clients (amqp10_catalogue.py, mqtt_catalogue.py, stomp_catalogue.py,
stream_catalogue.py), how they are fetched (preparation.py) and run (running.py).
"""

from __future__ import annotations

from interop.suites.amqp10_catalogue import AMQP10_SUITES
from interop.suites.mqtt_catalogue import MQTT_SUITES
from interop.suites.stomp_catalogue import STOMP_SUITES
from interop.suites.stream_catalogue import STREAM_SUITES
from interop.suites.suite import (
    DEBIAN_POOL,
    DEBIAN_SNAPSHOT,
    HERE,
    Archive,
    Commit,
    Folder,
    LeftOut,
    Sdist,
    Setting,
    Suite,
)

PIKA = Suite(
    name="pika",
    version="1.3.2",
    source=Archive(
        (
            f"{DEBIAN_POOL}/p/python-pika/python-pika_1.3.2.orig.tar.gz",
            f"{DEBIAN_SNAPSHOT}/c76f03ea0b09a8df03eb6a4e8a7f8e8db89c3415",
        ),
        "5eb71b9a0047c77d99378e525a2041fc50aae4a177b060f9825b3e2fdcc96fc4",
    ),
    requirements=(
        "gevent==26.9.0",
        "pynose==1.5.5",
        "pytest==8.4.2",
        "pytest-timeout==2.4.0",
        "tornado==6.6.1",
        "twisted==26.10.0",
    ),
    arguments=("tests/acceptance", "-o", "python_files=*_test.py *_tests.py"),
    settings=(
        # In acceptance/ and base/. The host stays what it is: one or the other name of this machine's loopback.
        Setting("tests/[ab]*/*.py", "port=5672", "port={port}"),
        Setting("tests/[ab]*/*.py", "'port': 5672", "'port': {port}"),
    ),
    left_out=(
        LeftOut(
            ("--deselect=tests/acceptance/io_services_tests.py::TestGetaddrinfoWWWGoogleDotComPort80",),
            "asks the internet's DNS for a web site, not the broker",
        ),
    ),
    meant={
        "tests.acceptance.blocking_adapter_test.TestInvalidExchangeTypeRaisesConnectionClosed::test": (
            "behave_like is 3.13, where the channel is closed and not the connection"
        )
    },
)

PY_AMQP = Suite(
    name="py-amqp",
    version="5.4.2",
    source=Sdist("amqp", "amqp-5.4.2.tar.gz", "9362660c4a31150cf18e78cae2ce8aa1e929fc6c6739e69f6dd5dbea9c3edc82"),
    requirements=("amqp==5.4.2", "pytest==8.4.2", "pytest-timeout==2.4.0", "vine==5.1.0"),
    arguments=("t/integration", "-W", "ignore::pytest.PytestUnknownMarkWarning"),
    environment={"RABBITMQ_HOST": "{host}", "RABBITMQ_5672_TCP": "{port}"},
    left_out=(LeftOut(("-k", "not tls"), "TLS needs a broker set up with the suite's certificates"),),
)

KOMBU = Suite(
    name="kombu",
    version="5.7.0",
    source=Sdist("kombu", "kombu-5.7.0.tar.gz", "31e62fdfd2381caa3422f8e02b84a491d9a2180ddda74507b57f4cb1e1c2c2c9"),
    requirements=(
        "amqp==5.4.2",
        "hypothesis==6.170.15",
        "kombu==5.7.0",
        "pytest==8.4.2",
        "pytest-freezer==0.4.9",
        "pytest-timeout==2.4.0",
    ),
    arguments=("t/integration/test_py_amqp.py", "-W", "ignore::pytest.PytestUnknownMarkWarning"),
    environment={"RABBITMQ_HOST": "{host}", "RABBITMQ_5672_TCP": "{port}"},
)

AIORMQ = Suite(
    name="aiormq",
    version="7.2.4",
    source=Sdist("aiormq", "aiormq-7.2.4.tar.gz", "5fd20bb9583d73de85572198496b65cf028f27527c1733c9840d458e0b40e8fa"),
    requirements=(
        "aiomisc==18.0.37",
        "aiomisc-pytest==2.0.0",
        "aiormq==7.2.4",
        "pamqp==4.0.1",
        "pytest==8.4.2",
        "pytest-timeout==2.4.0",
    ),
    arguments=("tests", "-p", "aiormq_fixtures"),
    environment={
        "BROKER_UNDER_TEST_HOST": "{host}",
        "BROKER_UNDER_TEST_PORT": "{port}",
        "PYTHONPATH": str(HERE / "stand_ins"),
    },
    # They race the client's own close against the broker's close-ok, or against a publish that it holds up itself.
    unsteady=frozenset(
        [
            f"tests.test_connection::test_closing_waiter_cancellation[{url}-{how}-connection-True]"
            for url in ("amqp", "amqp-named")
            for how in ("cancel", "timeout")
        ]
        + [
            f"tests.test_connection_futures::test_connection_close_during_publish_drain[{url}]"
            for url in ("amqp", "amqp-named")
        ]
    ),
    left_out=(LeftOut(("-k", "not amqps and not ssl"), "TLS needs a broker set up with the suite's certificates"),),
)

AIO_PIKA = Suite(
    name="aio-pika",
    version="10.2.1",
    source=Sdist(
        "aio-pika", "aio_pika-10.2.1.tar.gz", "e4f77afd9179a3cca5a904c3b0a1190256a36d9f90650db908b1b2245eb27487"
    ),
    requirements=(
        "aio-pika==10.2.1",
        "aiomisc==18.0.37",
        "aiomisc-pytest==2.0.0",
        "aiormq==7.2.4",
        "pamqp==4.0.1",
        "pytest==8.4.2",
        "pytest-timeout==2.4.0",
        "shortuuid==1.0.13",
    ),
    arguments=("tests",),
    environment={"BROKER_UNDER_TEST_HOST": "{host}", "BROKER_UNDER_TEST_PORT": "{port}"},
    # Whether the closed channels can already be collected depends on how the client's tasks happened to end.
    unsteady=frozenset(
        [f"tests.test_memory_leak::test_leak_unclosed_channel[{how}]" for how in ("connect", "connect_robust")]
        + ["tests.test_reconnect_channel_snapshot::test_create_channels_during_reconnect"]
    ),
    replaced={"tests/docker_client.py": HERE / "stand_ins" / "aio_pika_docker_client.py"},
    left_out=(
        LeftOut(("--ignore=tests/test_amqps.py",), "TLS needs a broker set up with the suite's certificates"),
        LeftOut(("--ignore=tests/test_robust_recovery.py",), "restarts the broker in a container of its own"),
    ),
)

CELERY = Suite(
    name="celery",
    version="5.7.0",
    source=Folder(HERE / "celery_app"),
    requirements=(
        "amqp==5.4.2",
        "celery==5.7.0",
        "kombu==5.7.0",
        "pytest==8.4.2",
        "pytest-timeout==2.4.0",
    ),
    arguments=("checks.py",),
    environment={"AMQP_URL": "{url}"},
)

TASKIQ = Suite(
    name="taskiq-aio-pika",
    version="0.6.0",
    source=Commit(  # its sdist has no tests
        "https://github.com/taskiq-python/taskiq-aio-pika", "cf893019f02c01a6a141f46f217be3f959a317f4"
    ),
    requirements=(
        "aio-pika==10.2.1",
        "aiormq==7.2.4",
        "anyio==4.16.0",
        "pamqp==4.0.1",
        "pytest==9.2.0",
        "pytest-timeout==2.4.0",
        "taskiq==0.13.0",
        "taskiq-aio-pika==0.6.0",
    ),
    arguments=("tests",),
    environment={"TEST_AMQP_URL": "{url}"},
    meant=dict.fromkeys(
        (
            "tests.test_delay_with_plugin::test_when_delayed_message_plugin_enabled__then_send_with_delay_must_work",
            "tests.test_startup.TestStartup"
            "::test_when_delayed_message_exchange_plugin_enabled__broker_declares_exchange_on_startup",
        ),
        "RabbitMQ lacks the plugin rabbitmq_delayed_message_exchange, which Debian does not have",
    ),
)

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        *(PIKA, PY_AMQP, KOMBU, AIORMQ, AIO_PIKA, CELERY, TASKIQ),
        *(*AMQP10_SUITES, *MQTT_SUITES, *STOMP_SUITES, *STREAM_SUITES),
    )
}
"""All suites, AMQP's quick ones first; aiormq takes a minute or two, aio-pika and celery several."""
