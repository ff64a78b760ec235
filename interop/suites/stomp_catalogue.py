"""Which suites of STOMP clients there are. See catalogue.py, which has the others and the table of all."""

from __future__ import annotations

from interop.suites.suite import HERE, Commit, LeftOut, Setting, Suite

PYTEST = ("pytest==8.4.2", "pytest-timeout==2.4.0")
STOMP_PY_PACKAGES = ("stomp.py==8.2.0", "docopt==0.6.2", "--no-binary=docopt")  # which has no wheel
OF_RABBITMQ = "deps/rabbitmq_stomp/test/python_SUITE_data/src"
MODULES = (
    "parsing", "errors", "connect_disconnect", "ack", "amqp_headers", "queue_properties", "reliability", "transactions",
    "x_queue_name", "destinations", "redelivered", "topic_permissions", "unsubscribe", "x_queue_type_quorum",
    "x_queue_type_stream",
)  # fmt: skip

RABBITMQ_COMMIT = Commit("https://github.com/rabbitmq/rabbitmq-server", "5b09e556da53b8473f26843a2493d8460ced8c8e")

RABBITMQ = Suite(
    name="rabbitmq-stomp",
    version=RABBITMQ_COMMIT.commit[:10],  # of 2026; what 3.10.8 has of it are 86 of these 103 tests
    source=RABBITMQ_COMMIT,
    requirements=(*STOMP_PY_PACKAGES, "pika==1.3.2", "rabbitman==0.1.0", *PYTEST),
    arguments=(*(f"{OF_RABBITMQ}/{name}.py" for name in MODULES), "-o", "python_files=*.py"),
    environment={
        "STOMP_PORT": "{port}",
        "AMQP_PORT": "{amqp_port}",
        "MGMT_PORT": "{management_port}",
        "RABBITMQCTL": "{ctl}",
        "RABBITMQ_NODENAME": "{node}",
    },
    protocol="stomp",
    explained={
        f"{OF_RABBITMQ.replace('/', '.')}.destinations.TestExchange::test_invalid_exchange": (
            "wants the text without NOT_FOUND before it, which 3.10 and 4.0 say as well"
        ),
    },
    left_out=(
        LeftOut((), "tls_connect_disconnect: TLS needs a broker set up with the suite's certificates"),
        LeftOut((), "implicit_connect: is about a setting of RabbitMQ's, to be logged in without CONNECT"),
    ),
)

STOMPJS_COMMIT = Commit("https://github.com/stomp-js/stompjs", "4eaed27648a85e4ac7464de5b06ce75856ce46c3")
STOMPJS_PACKAGES = ("jasmine@5.13.0", "ws@8.23.0", "text-encoding@0.7.0", "@stomp/tcp-wrapper@1.0.1")
STOMPJS_SETTINGS = (
    Setting("spec/config/node-config.js", "ws://localhost:15674/ws", "{web_socket_url}"),
    Setting("spec/config/node-config.js", "ws://localhost:61625", "ws://127.0.0.1:1"),
    Setting("spec/helpers/connect-helpers.js", "'127.0.0.1', 61613", "'127.0.0.1', {port}"),
)
JASMINE = ("node_modules/jasmine/bin/jasmine.js",)
JASMINE_REPORT = {"spec/helpers/junit.js": HERE / "stand_ins" / "jasmine_junit.js"}

STOMPJS = Suite(
    name="stompjs",
    version="7.1.1",
    source=STOMPJS_COMMIT,
    requirements=STOMPJS_PACKAGES,
    arguments=JASMINE,
    settings=STOMPJS_SETTINGS,
    replaced=JASMINE_REPORT,
    runs_with="node",
    protocol="stomp",
)

STOMPJS_OVER_TCP = Suite(
    name="stompjs-tcp",
    version="7.1.1",
    source=STOMPJS_COMMIT,
    requirements=STOMPJS_PACKAGES,
    arguments=JASMINE,
    environment={"CONN_MODE": "tcp"},
    settings=STOMPJS_SETTINGS,
    replaced=JASMINE_REPORT,
    runs_with="node",
    protocol="stomp",
)

STOMP_PY_MODULES = (
    "basic", "context", "nonascii", "s10", "s11", "s12", "rabbitmq", "rabbitmq_ws", "threading", "override_threading",
    "misc", "transport", "utils", "ss",
)  # fmt: skip

STOMP_PY = Suite(
    name="stomp.py",
    version="8.2.0",
    source=Commit("https://github.com/jasonrbriggs/stomp.py", "e2b359094dd3de8411c4c7808c81d65ae98d6c40"),
    requirements=(*STOMP_PY_PACKAGES, "pytest-mock==3.14.1", *PYTEST),
    arguments=tuple(f"tests/test_{name}.py" for name in STOMP_PY_MODULES),
    environment={
        **{f"{name}_HOST": "{host}" for name in ("STD", "RABBITMQ", "RABBITMQ_WS")},
        **{f"{name}_PORT": "{port}" for name in ("STD", "RABBITMQ")},
        "RABBITMQ_WS_PORT": "{web_socket_port}",
        **{f"{name}_USER": "guest" for name in ("STD", "RABBITMQ")},
        **{f"{name}_PASSWORD": "guest" for name in ("STD", "RABBITMQ")},
        "STD_VHOST": "/",
    },
    protocol="stomp",
    test_timeout_s=60,
    explained={
        "tests.test_basic.TestBasic::test_default_to_localhost": "asks for a broker on port 61613",
        "tests.test_basic.TestBasic::test_host_bind_port": "asks for a broker on port 61613",
        "tests.test_basic.TestBasic::test_timeout": "wants an address at which nobody answers, not even to refuse",
    },
    left_out=(
        LeftOut((), "modules about other brokers, TLS, IPv6 in a container, multicast, and the client's command line"),
    ),
)

STOMP_SUITES = (RABBITMQ, STOMPJS, STOMPJS_OVER_TCP, STOMP_PY)
