"""Which suites of AMQP 1.0's clients there are. See catalogue.py, which has the others and the table of all."""

from __future__ import annotations

from interop.suites.suite import Commit, LeftOut, Sdist, Setting, Suite

PYTHON_CLIENT = Suite(
    name="rabbitmq-amqp-python-client",
    version="2.0.0b2",
    source=Sdist(
        "rabbitmq-amqp-python-client",
        "rabbitmq_amqp_python_client-2.0.0b2.tar.gz",
        "bd2b2be7294358708fc0d05a14a283e1e01ca164ad36e807c316819fa05198a8",
    ),
    # The client itself is the tree's.
    requirements=("pika==1.4.4", "pytest==9.2.0", "pytest-timeout==2.4.0", "rstream==1.0.1"),
    arguments=("tests/integration",),
    settings=(
        Setting("rabbitmq_amqp_python_client/constants.py", "_AMQP_PORT = 5672", "_AMQP_PORT = {port}"),
        Setting("rabbitmq_amqp_python_client/constants.py", "_AMQPS_PORT = 5671", "_AMQPS_PORT = {tls_port}"),
        Setting("tests/integration/conftest.py", "BROKER_PORT = 5672", "BROKER_PORT = {port}"),
        Setting("tests/integration/conftest.py", "BROKER_TLS_PORT = 5671", "BROKER_TLS_PORT = {tls_port}"),
        Setting("tests/integration/conftest.py", "localhost:15672", "localhost:{management_port}"),
        Setting("tests/integration/conftest.py", "BROKER_HOST, 15672", "BROKER_HOST, {management_port}"),
        Setting(
            "tests/integration/conftest.py",
            'CERTS_DIR = pathlib.Path(__file__).resolve().parents[2] / ".ci" / "certs"',
            'CERTS_DIR = pathlib.Path("{credentials}")',
        ),
        Setting(
            "tests/integration/*.py",
            "pika.ConnectionParameters(PIKA_HOST",
            "pika.ConnectionParameters(PIKA_HOST, {port}",
        ),
        Setting("tests/integration/*.py", "RSTREAM_PORT = 5552", "RSTREAM_PORT = {stream_port}"),
        Setting("tests/integration/*.py", "RstreamProducer(RSTREAM_HOST", "RstreamProducer(RSTREAM_HOST, RSTREAM_PORT"),
    ),
    meant={
        f"tests.integration.test_consumer_integration.{test}": f"RabbitMQ lacks {what} before 4.1"
        for test, what in {
            "TestStreamAmqpFilterExpressions::"
            "test_a_property_filter_alone_selects_exactly_that_property": "filters by properties",
            "TestStreamAmqpFilterExpressions::"
            "test_a_subject_and_a_property_filter_select_exactly_the_matching_subset": "filters by properties",
            "TestDirectReplyTo::test_context_methods_are_refused_on_a_direct_reply_to_delivery": "dynamic sources",
        }.items()
    },
    protocol="amqp10",
)

PYTHON_CLIENT_WITH_PROTON = Suite(
    name="rabbitmq-amqp-python-client-proton",
    version="0.6.0",  # the last one whose source is public; from 2.0 on it is another client
    source=Commit(  # its sdist has no tests
        "https://github.com/rabbitmq/rabbitmq-amqp-python-client", "9dd3cc0795e393bebda578c9dd42b888f1e4f909"
    ),
    requirements=(
        "python-qpid-proton==0.40.0",
        "--no-binary=python-qpid-proton",
        "packaging==24.2",
        "pika==1.3.2",
        "pyjwt[crypto]==2.10.1",
        "pytest==8.4.2",
        "pytest-asyncio==1.2.0",
        "pytest-timeout==2.4.0",
        "requests==2.32.5",
        "typing-extensions==4.15.0",
    ),
    arguments=("tests",),
    settings=(
        Setting("tests/**/*.py", "localhost:5672", "{host}:{port}"),
        Setting("tests/**/*.py", "localhost:5671", "localhost:{tls_port}"),
        Setting("tests/**/*.py", "localhost:15672", "{host}:{management_port}"),
        Setting("tests/**/*.py", 'ConnectionParameters("localhost", ', 'ConnectionParameters("{host}", {port}, '),
        Setting("tests/conftest.py", ".ci/certs/", "{credentials}/"),
        # Tokens that a private key signs: keys with which whoever checks a token could sign one are not taken here.
        Setting(
            "tests/utils.py",
            'decoded_key = base64.b64decode("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH")',
            'decoded_key = open("{credentials}/signing-key.pem", "rb").read()',
        ),
        Setting("tests/utils.py", '"HS256"', '"RS256"'),
    ),
    left_out=(
        LeftOut(("--ignore=tests/asyncio",), "uses Proton from several threads, which ends the interpreter (SIGSEGV)"),
    ),
    protocol="amqp10",
    test_timeout_s=60,
)

ON_STREAMS = "consumer.test.ts::Consumer > consumer can handle message on stream"
MANAGEMENT = "management.test.ts::Management"
OAUTH = "oauth_connection.test.ts::Oauth2 Connection"

JS_CLIENT = Suite(
    name="rabbitmq-amqp-js-client",
    version="1.0.0",
    source=Commit("https://github.com/coders51/rabbitmq-amqp-js-client", "c75bd5f2bc50d49e4991a9741f5a4378e364548f"),
    requirements=(
        "rhea@3.0.5",
        "@tsconfig/node22@22.0.2",
        "assertion-error@2.0.1",
        "got@14.4.9",
        "jsonwebtoken@9.0.2",
        "vite@7.3.6",
        "vitest@3.2.6",
    ),
    arguments=("node_modules/vitest/vitest.mjs", "run"),
    environment={
        "RABBITMQ_HOSTNAME": "localhost",  # as the certificate has it
        "RABBITMQ_PORT": "{port}",
        "RABBITMQ_USER": "guest",
        "RABBITMQ_PASSWORD": "guest",
        "CN": "localhost",
    },
    settings=(
        Setting("test/support/util.ts", "managementPort = 15672", "managementPort = {management_port}"),
        Setting("test/support/rhea_utils.ts", "port: 5672", "port: {port}"),
        Setting("test/e2e/tls_connection.test.ts", "port: 5671", "port: {tls_port}"),
        Setting("test/e2e/tls_connection.test.ts", "./tls-gen/basic/result/", "{credentials}/"),
        # Tokens that a private key signs, as above.
        Setting(
            "test/support/util.ts",
            'import { createSecretKey } from "crypto"',
            'import { createPrivateKey } from "crypto"\nimport { readFileSync } from "fs"',
        ),
        Setting(
            "test/support/util.ts",
            "createSecretKey(bytes)",
            'createPrivateKey(readFileSync("{credentials}/signing-key.pem"))',
        ),
        Setting("test/support/util.ts", "    audience,\n", '    audience,\n    algorithm: "RS256",\n'),
        Setting(
            "vitest.config.mts",
            "testTimeout: 5000,",
            'testTimeout: 5000,\n    reporters: ["default", "junit"],\n    outputFile: process.env.JUNIT_REPORT,',
        ),
    ),
    meant={
        f"test/e2e/{test}": f"RabbitMQ lacks {what} before 4.1"
        for test, what in {
            f"{ON_STREAMS} with filter on application properties": "filters by properties",
            f"{ON_STREAMS} with filter on message properties": "filters by properties",
            f"{MANAGEMENT} > refresh the token through the /auth/tokens endpoint": "/auth/tokens",
            f"{MANAGEMENT} > queues > "
            "concurrent calls to different management operations do not produce race conditions": "/auth/tokens",
            f"{OAUTH} > refreshing the token of an oauth2 connection": "/auth/tokens",
            f"{OAUTH} > reconnect with new token of an oauth2 connection": "/auth/tokens",
        }.items()
    },
    runs_with="node",
    protocol="amqp10",
)

AMQP10_SUITES = (PYTHON_CLIENT, PYTHON_CLIENT_WITH_PROTON, JS_CLIENT)
