"""Which suites of MQTT clients there are. See catalogue.py, which has the others and the table of all.

No test of theirs may ask a server of the internet: the names of public ones are rewritten to the broker under test.
"""

from __future__ import annotations

import sys

from interop.suites.suite import DEBIAN_POOL, HERE, Archive, Commit, LeftOut, Sdist, Setting, Suite

ECLIPSE = Commit("https://github.com/eclipse/paho.mqtt.testing", "9d7bb80bb8b9d9cfc0b52f8cb4c1916401281103")
TESTS_5 = "interoperability.client_test5.Test"
ECLIPSE_CONFTEST = {"interoperability/conftest.py": HERE / "stand_ins" / "eclipse_conftest.py"}
DISCONNECT = (
    "wants that an MQTT 5 client is cut off without a word; it is to be told why by DISCONNECT (MQTT 5.0, 4.13.1), "
    "as mosquitto's next version does, which has dropped the script (its commit ba2ca33)"
)
TOO_LARGE = "wants a packet of 21 bytes for a client that takes 20 at most, which MQTT 5.0, 3.1.2.11.4 forbids"
WILL_DELAY = (
    "wants that the delay of a will outlasts its session; it is said when the session ends (MQTT 5.0, 3.1.3.2.2)"
)
DEEP_FILTER = (
    "wants an end for a topic filter of more than 200 levels; SUBACK has a word for one that is well-formed and not "
    "allowed, 0x8F (MQTT 5.0, 3.9.3) and 0x80 (MQTT 3.1.1, 3.9.3)"
)
NOT_THE_STANDARDS = {
    "01-connect-connack-2163.py": DISCONNECT,
    "01-connect-duplicate.py": (
        "wants that an MQTT 5 client hears nothing of why a second CONNECT ends its connection, which may be said or "
        "not (MQTT 5.0, 4.13.1); mosquitto has dropped the script since"
    ),
    "02-subpub-qos1-bad-pubcomp.py": DISCONNECT,
    "02-subpub-qos1-bad-pubrec.py": DISCONNECT,
    "02-subpub-qos2-bad-puback-1.py": DISCONNECT,
    "02-subpub-qos2-bad-puback-2.py": DISCONNECT,
    "02-subpub-qos2-bad-pubcomp.py": DISCONNECT,
    "12-prop-maximum-packet-size-publish-qos1.py": TOO_LARGE,
    "12-prop-maximum-packet-size-publish-qos2.py": TOO_LARGE,
    "07-will-delay.py": WILL_DELAY,
    "07-will-delay-reconnect.py": WILL_DELAY,
    "07-will-delay-recover.py": WILL_DELAY,
    "07-will-takeover.py": (
        "wants no will of a connection that another one takes over and both sessions last; it is to be said "
        "(MQTT 3.1.1, 3.1.2.5; MQTT 5.0, 3.1.4)"
    ),
    "13-malformed-subscribe-v5.py": (
        "wants 0x81, Malformed Packet, for what the standard calls a Protocol Error, 0x82: a SUBSCRIBE without a "
        "filter (MQTT 5.0, 3.8.3), a subscription identifier of 0 (3.8.2.1.2)"
    ),
    "03-publish-long-topic.py": (
        "wants 0x82 and an end for a topic of more than 200 levels, and 0x81 in mosquitto's next version; PUBACK has a "
        "word for a topic that is well-formed and not accepted, 0x90 (MQTT 5.0, 3.4.2.1)"
    ),
    "02-subscribe-long-topic.py": DEEP_FILTER,
    "02-subpub-qos0-long-topic.py": DEEP_FILTER,
    "02-subpub-qos1-message-expiry.py": (
        "wants the packet identifier 2 for the first message that the client gets; the sender chooses (MQTT 5.0, 2.2.1)"
    ),
    "07-will-properties.py": (
        "wants properties of different kinds in the order in which they came, which means nothing (MQTT 5.0, 2.2.2.2)"
    ),
    "03-publish-qos1-queued-bytes.py": "is for Python 2 and asks for mosquitto's counts below $SYS; fails there, too",
}
UNDER_TEST = {"BROKER_UNDER_TEST_HOST": "{host}", "BROKER_UNDER_TEST_PORT": "{port}"}
PYTEST = ("pytest==8.4.2", "pytest-timeout==2.4.0")

ECLIPSE_3 = Suite(
    name="eclipse-mqtt-3.1.1",
    version=ECLIPSE.commit[:10],
    source=ECLIPSE,
    requirements=PYTEST,
    arguments=("interoperability/client_test.py",),
    environment=UNDER_TEST,
    replaced=ECLIPSE_CONFTEST,
    protocol="mqtt",
    test_timeout_s=30,
)

ECLIPSE_5 = Suite(
    name="eclipse-mqtt-5",
    version=ECLIPSE.commit[:10],
    source=ECLIPSE,
    requirements=PYTEST,
    arguments=("interoperability/client_test5.py",),
    environment=UNDER_TEST,
    replaced=ECLIPSE_CONFTEST,
    protocol="mqtt",
    explained={f"{TESTS_5}::test_subscribe_failure": "0x87, not authorized, is said; the test wants 0x80"},
    # They publish on one connection before the other one's subscription has been answered.
    unsteady=frozenset(f"{TESTS_5}::{name}" for name in ("test_request_response", "test_subscribe_options")),
    test_timeout_s=30,
)

MOSQUITTO = Suite(
    name="mosquitto",
    version="2.0.11",
    source=Archive(
        (f"{DEBIAN_POOL}/m/mosquitto/mosquitto_2.0.11.orig.tar.gz",),
        "7b36a7198bce85cf31b132f5c6ee36dcf5dadf86fb768501eb1e11ce95d4f78a",
    ),
    requirements=PYTEST,
    arguments=("mosquitto_scripts.py", "-o", "python_files=mosquitto_scripts.py"),
    environment={
        **UNDER_TEST,
        "BROKER_UNDER_TEST": "{kind}",
        "BROKER_PYTHON": sys.executable,
        "BROKER_ROOT": str(HERE.parent.parent),
    },
    settings=(Setting("test/mosq_test.py", "range(0, 20)", "range(0, 200)"),),  # waits for a broker to listen
    replaced={
        "mosquitto_scripts.py": HERE / "stand_ins" / "mosquitto_scripts.py",
        "src/mosquitto": HERE / "stand_ins" / "mosquitto_program.py",
    },
    protocol="mqtt",
    test_timeout_s=60,
    left_out=tuple(
        LeftOut(("--deselect", f"mosquitto_scripts.py::test_script[{script}]"), f"it {why}")
        for script, why in NOT_THE_STANDARDS.items()
    ),
)

GMQTT = Suite(
    name="gmqtt",
    version="0.8.0",
    source=Sdist("gmqtt", "gmqtt-0.8.0.tar.gz", "61fb7641109f57ca29f73d2d8f2cb487de49d76338ef8c68228db961b6e9696a"),
    requirements=("gmqtt==0.8.0", "pytest-asyncio==1.2.0", *PYTEST),
    arguments=("tests/test_mqtt5.py",),
    environment={"HOST": "{host}", "PORT": "{port}", "TOKEN": ""},
    protocol="mqtt",
    explained={
        "tests.test_mqtt5::test_assigned_clientid": "the test looks for a key that the client itself does not have",
        "tests.test_mqtt5::test_basic_ssl": "asks for TLS on port 8883",
    },
    test_timeout_s=30,
)

AIOMQTT = Suite(
    name="aiomqtt",
    version="2.5.1",
    source=Sdist("aiomqtt", "aiomqtt-2.5.1.tar.gz", "25a0a47d157e8f158d2da1110ea4786c0615518751e94f7b04976c977a8ff20d"),
    requirements=("aiomqtt==2.5.1", "anyio==4.11.0", "paho-mqtt==2.1.0", *PYTEST),
    arguments=("tests", "-W", "ignore::pytest.PytestUnknownMarkWarning"),
    settings=(
        Setting("tests/test_client.py", 'HOSTNAME = "test.mosquitto.org"', 'HOSTNAME = "{host}"'),
        Setting("aiomqtt/client.py", "port: int = 1883", "port: int = {port}"),
    ),
    protocol="mqtt",
    explained={
        "tests.test_client::test_client_reusable_message": "the client itself raises a group of exceptions",
        "tests.test_client::test_messages_view_len": (
            "counts on getting a message later than the read that brings the PUBCOMP of it, and waits for another"
        ),
    },
    test_timeout_s=30,
    left_out=(LeftOut(("-k", "not tls and not websockets"), "asks a public server's ports for TLS and web sockets"),),
)

AIOMQTT_3_COMMIT = Commit("https://github.com/empicano/aiomqtt", "4c362b39a54a64e9a39720d29190cd56f98cb0ca")
AIOMQTT_3 = Suite(
    name="aiomqtt-3",
    version=AIOMQTT_3_COMMIT.commit[:10],
    source=AIOMQTT_3_COMMIT,  # 3.0.0a1 itself wants an mqtt5 that is no more; a package of the name must be installed
    requirements=("aiomqtt==2.5.1", "mqtt5==0.7.0", "pytest-asyncio==1.2.0", *PYTEST),
    arguments=("tests",),
    environment={"AIOMQTT_TEST_HOSTNAME": "{host}"},
    settings=(
        Setting("aiomqtt/_client.py", "port: int = 1883", "port: int = {port}"),
        Setting("tests/test_client.py", "port=1884", "port={port}"),
    ),
    protocol="mqtt",
    # They answer themselves, and the broker's answer comes before or after that.
    unsteady=frozenset(f"tests.test_client::test_publish_qos{qos}_no_matching_subscribers" for qos in (1, 2)),
    test_timeout_s=30,
    left_out=(LeftOut(("-k", "not tls and not ssl"), "TLS needs a broker set up with the suite's certificates"),),
)

MQTT_SUITES = (GMQTT, AIOMQTT, AIOMQTT_3, ECLIPSE_3, ECLIPSE_5, MOSQUITTO)
