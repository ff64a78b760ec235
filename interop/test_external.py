"""TLS, and logging in by certificate: mechanism EXTERNAL, by common name and by alternative name.

Both brokers are started anew with certificates; RabbitMQ with its plugin rabbitmq_auth_mechanism_ssl.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from interop import brokers
from interop.raw_client import NO_CAUSE, Basic, Client, Connection, Queue
from interop.under_test import BrokerUnderTest

COMMON_NAME, ALTERNATIVE_NAME = "common_name", "alternative_name"
REFUSED = "Login was refused using authentication mechanism {}. For details see the broker logfile."

RABBITMQ_CONFIG = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = FOLDER/ca.pem
ssl_options.certfile = FOLDER/server.pem
ssl_options.keyfile = FOLDER/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = {is_required}
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
"""
RABBITMQ_LOGIN = {
    COMMON_NAME: "ssl_cert_login_from = common_name\n",
    ALTERNATIVE_NAME: "ssl_cert_login_from = subject_alternative_name\nssl_cert_login_san_type = dns\n"
    "ssl_cert_login_san_index = 0\n",
}
OUR_LOGIN = {COMMON_NAME: "common_name", ALTERNATIVE_NAME: "san_dns"}


class TlsBrokers:
    """The brokers of this module, each started when it is first asked. Alternative names: a certificate is required."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self._folder = folder
        self._started: dict[tuple[brokers.Choice, str], tuple[brokers.RabbitMQ | brokers.OurBroker, int]] = {}
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        issued.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
        issued.private_key_pem.write_to_path(str(folder / "server.key"))

    def get(self, choice: brokers.Choice, login: str) -> tuple[brokers.RabbitMQ | brokers.OurBroker, int]:
        if (choice, login) not in self._started:
            (port,) = brokers.free_ports(1)
            process = self._start(choice, login, port)
            self._started[choice, login] = process, port
            self._add_users(process)
        return self._started[choice, login]

    def _start(self, choice: brokers.Choice, login: str, port: int) -> brokers.RabbitMQ | brokers.OurBroker:
        is_required = login == ALTERNATIVE_NAME
        environment = {
            "TLS_PORT": str(port),
            "TLS_CERTIFICATE": str(self._folder / "server.pem"),
            "TLS_KEY": str(self._folder / "server.key"),
            "TLS_CA": str(self._folder / "ca.pem"),
            "TLS_CLIENT_CERTIFICATE": "required" if is_required else "optional",
            "TLS_LOGIN_FROM": OUR_LOGIN[login],
        }
        config = RABBITMQ_CONFIG.format(port=port, is_required=str(is_required).lower())
        files = {name: self._folder / name for name in ("ca.pem", "server.pem", "server.key")}
        return choice.start(
            config=config + RABBITMQ_LOGIN[login],
            files=files,
            plugins=["rabbitmq_auth_mechanism_ssl"],
            environment={f"AMQP_BROKER_{name}": value for name, value in environment.items()},
        )

    def _add_users(self, process: brokers.RabbitMQ | brokers.OurBroker) -> None:
        if isinstance(process, brokers.RabbitMQ):
            process.ctl("add_user", "ada", "secret")
            process.ctl("set_permissions", "ada", ".*", ".*", ".*")
        else:
            process.ctl("users", "add", "ada", "--password-stdin", standard_input="secret\n")
            process.ctl("permissions", "set", "ada", ".*", ".*", ".*")

    def stop(self) -> None:
        for process, _ in self._started.values():
            process.stop()


@pytest.fixture(scope="module")
def tls_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBrokers]:
    started = TlsBrokers(tmp_path_factory.mktemp("certificates"))
    yield started
    started.stop()


class TlsUnderTest:
    """One broker as clients with certificates see it."""

    def __init__(self, tls_brokers: TlsBrokers, broker: BrokerUnderTest) -> None:
        self._brokers = tls_brokers
        self.broker = broker
        self.clients: list[Client] = []

    def socket(
        self,
        certificate: trustme.LeafCert | None = None,
        login: str = COMMON_NAME,
        *,
        authority: trustme.CA | None = None,
    ) -> Client:
        """A TLS connection on which nothing has been said yet."""
        _, port = self._brokers.get(self.broker.choice, login)
        context = ssl.create_default_context()
        (authority or self._brokers.authority).configure_trust(context)
        if certificate is not None:
            certificate.configure_cert(context)
        self.clients.append(Client("127.0.0.1", port, tls=context))
        return self.clients[-1]

    def plain_socket(self) -> Client:
        process, _ = self._brokers.get(self.broker.choice, COMMON_NAME)
        self.clients.append(Client("127.0.0.1", process.address.port))
        return self.clients[-1]

    def issue(
        self, *names: str, common_name: str | None = None, authority: trustme.CA | None = None
    ) -> trustme.LeafCert:
        return (authority or self._brokers.authority).issue_cert(*names, common_name=common_name)


@pytest.fixture
def tls(tls_brokers: TlsBrokers, broker: BrokerUnderTest) -> Iterator[TlsUnderTest]:
    under_test = TlsUnderTest(tls_brokers, broker)
    yield under_test
    for client in under_test.clients:
        client.close()


def log_in(client: Client, response: bytes = b"") -> None:
    client.begin()
    client.send_start_ok(mechanism="EXTERNAL", response=response)
    client.expect_tune()
    client.send_tune_ok()
    client.open("/")


def mechanisms(client: Client) -> set[str]:
    start = client.begin()
    return set(start.mechanisms.split())


def expect_refusal(client: Client, mechanism: str = "EXTERNAL") -> None:
    client.expect_connection_close(403, REFUSED.format(mechanism), cause=NO_CAUSE, then="stay")


def test_external_is_offered_to_who_has_a_certificate(tls: TlsUnderTest) -> None:
    certificate = tls.issue("ada.example", common_name="ada")
    assert mechanisms(tls.socket(certificate)) == {"PLAIN", "AMQPLAIN", "EXTERNAL"}


def test_external_and_no_tls(tls: TlsUnderTest) -> None:
    client = tls.plain_socket()
    assert mechanisms(client) == {"PLAIN", "AMQPLAIN"}


def test_external_without_a_certificate(tls: TlsUnderTest) -> None:
    client = tls.socket()
    assert mechanisms(client) == {"PLAIN", "AMQPLAIN", "EXTERNAL"}
    client.send_start_ok(mechanism="EXTERNAL", response=b"")
    expect_refusal(client)


@pytest.mark.parametrize("response", [b"", b"somebody else"], ids=["empty", "another name"])
def test_the_common_name_is_the_user(tls: TlsUnderTest, response: bytes) -> None:
    client = tls.socket(tls.issue("somebody.example", common_name="ada"))
    log_in(client, response)
    ch = client.channel()
    ch.publish("", "nowhere", b"", user_id="ada")
    ch.sync()
    ch.publish("", "nowhere", b"", user_id="guest")
    text = "user_id property set to 'guest' but authenticated user was 'ada'"
    ch.expect_close(406, text, cause=Basic.Publish)


def test_a_common_name_that_is_nobodys(tls: TlsUnderTest) -> None:
    client = tls.socket(tls.issue("ada.example", common_name="nobody"))
    client.begin()
    client.send_start_ok(mechanism="EXTERNAL", response=b"")
    expect_refusal(client)


def test_a_certificate_without_a_common_name(tls: TlsUnderTest) -> None:
    client = tls.socket(tls.issue("ada"))
    client.begin()
    client.send_start_ok(mechanism="EXTERNAL", response=b"")
    expect_refusal(client)


def test_the_alternative_name_is_the_user(tls: TlsUnderTest) -> None:
    client = tls.socket(tls.issue("ada", "other.example", common_name="nobody"), ALTERNATIVE_NAME)
    log_in(client)
    client.channel().call(Queue.Declare, queue="", exclusive=True)


def test_an_alternative_name_that_is_nobodys(tls: TlsUnderTest) -> None:
    client = tls.socket(tls.issue("other.example", "ada", common_name="ada"), ALTERNATIVE_NAME)
    client.begin()
    client.send_start_ok(mechanism="EXTERNAL", response=b"")
    expect_refusal(client)


def test_a_password_over_tls(tls: TlsUnderTest) -> None:
    client = tls.socket(tls.issue("ada", common_name="nobody"))
    client.begin()
    client.send_start_ok(user="ada", password="secret")
    client.expect_tune()
    client = tls.socket()
    client.begin()
    client.send_start_ok(user="ada", password="wrong")
    expect_refusal(client, "PLAIN")


def test_a_certificate_of_another_authority_is_refused(tls: TlsUnderTest) -> None:
    certificate = tls.issue("ada", common_name="ada", authority=trustme.CA())
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        tls.socket(certificate).begin()  # TLS 1.3 tells a client only when it reads


def test_no_certificate_where_one_is_required(tls: TlsUnderTest) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        tls.socket(None, ALTERNATIVE_NAME).begin()


def test_a_client_without_tls_on_the_tls_port(tls: TlsUnderTest) -> None:
    _, port = tls._brokers.get(tls.broker.choice, COMMON_NAME)
    client = Client("127.0.0.1", port)
    tls.clients.append(client)
    client.send_header()
    with pytest.raises((ConnectionError, AssertionError)):
        client.expect(Connection.Start)
