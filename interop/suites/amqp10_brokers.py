"""The brokers that suites of AMQP 1.0's clients ask: RabbitMQ 4, and ours as that. Not here: what is asked.

Both take TLS with logins by certificate, tokens (OAuth 2) beside their own users, and the stream protocol.
`BrokerAsked.more` has `tls_port`, `management_port`, `stream_port`, and `credentials`: a folder with the authority
`ca_certificate.pem`, guest's certificate `client_localhost_certificate.pem` and key `client_localhost_key.pem`, and the
key that signs tokens, `signing-key.pem`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import trustme

from interop.brokers import INSTALLATIONS, Address, OurBroker, RabbitMQ, free_ports
from interop.login_services import Tokens
from interop.suites.running import BrokerAsked

SERIES = "4.0"
RABBITMQ_4 = "rabbitmq-4"
AUDIENCE, KEY_NAME = "rabbitmq", "token-key"  # as the suites' tokens say
PLUGINS = [
    "rabbitmq_auth_backend_oauth2",
    "rabbitmq_auth_mechanism_ssl",
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_management",
    "rabbitmq_stream",
]
CONFIG = f"""\
listeners.ssl.1 = 127.0.0.1:{{tls}}
stream.listeners.tcp.1 = 127.0.0.1:{{stream}}
stream.advertised_host = localhost
stream.advertised_port = {{stream}}
ssl_options.cacertfile = FOLDER/ca_certificate.pem
ssl_options.certfile = FOLDER/server_certificate.pem
ssl_options.keyfile = FOLDER/server_key.pem
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = ANONYMOUS
auth_mechanisms.4 = EXTERNAL
management.tcp.ip = 127.0.0.1
management.tcp.port = {{management}}
auth_backends.1 = internal
auth_backends.2 = rabbit_auth_backend_oauth2
auth_oauth2.resource_server_id = {AUDIENCE}
auth_oauth2.default_key = {KEY_NAME}
auth_oauth2.signing_keys.{KEY_NAME} = FOLDER/token-key.pem
"""


def kinds_of_amqp10() -> list[str]:
    """The brokers that there are on this machine."""
    return [*([RABBITMQ_4] if INSTALLATIONS[SERIES]() is not None else []), "ours"]


@contextmanager
def amqp10_broker(kind: str) -> Iterator[BrokerAsked]:
    """A broker that is started for this, and where it speaks AMQP 1.0."""
    with tempfile.TemporaryDirectory(prefix="interop-credentials-") as name:
        folder = Path(name)
        tokens = _make_credentials(folder)
        ports = dict(zip(("tls", "management", "stream"), free_ports(3), strict=True))
        started = (_ours if kind == "ours" else _rabbitmq)(folder, tokens, ports)
        try:
            more = {f"{name}_port": str(port) for name, port in ports.items()}
            yield BrokerAsked(kind, Address("127.0.0.1", started.address.port), {**more, "credentials": str(folder)})
        finally:
            started.stop()


def _make_credentials(folder: Path) -> Tokens:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca_certificate.pem"))
    issued = {
        "server": authority.issue_cert("localhost"),  # a suite wants 127.0.0.1 to be refused
        "client_localhost": authority.issue_cert("guest", common_name="guest"),
    }
    for name, one in issued.items():
        one.cert_chain_pems[0].write_to_path(str(folder / f"{name}_certificate.pem"))
        one.private_key_pem.write_to_path(str(folder / f"{name}_key.pem"))
    tokens = Tokens(folder, key_name=KEY_NAME)
    (folder / "signing-key.pem").write_bytes(tokens.private_pem)
    return tokens


def _ours(folder: Path, tokens: Tokens, ports: Mapping[str, int]) -> OurBroker:
    environment = {
        **{f"{name.upper()}_PORT": str(port) for name, port in ports.items()},
        "STREAM_ADVERTISED_HOST": "localhost",
        "TLS_CERTIFICATE": str(folder / "server_certificate.pem"),
        "TLS_KEY": str(folder / "server_key.pem"),
        "TLS_CA": str(folder / "ca_certificate.pem"),
        "TLS_CLIENT_CERTIFICATE": "optional",
        "TLS_LOGIN_FROM": "common_name",
        "AUTH_BACKENDS": "internal,oauth2",
        "AUTH_OAUTH2_RESOURCE_SERVER_ID": AUDIENCE,
        "AUTH_OAUTH2_JWKS": str(tokens.jwks),
    }
    return OurBroker(SERIES, environment={f"AMQP_BROKER_{name}": value for name, value in environment.items()})


def _rabbitmq(folder: Path, tokens: Tokens, ports: Mapping[str, int]) -> RabbitMQ:
    names = ("ca_certificate.pem", "server_certificate.pem", "server_key.pem")
    return RabbitMQ(
        INSTALLATIONS[SERIES](),
        config=CONFIG.format(**ports),
        plugins=PLUGINS,
        files={**{name: folder / name for name in names}, "token-key.pem": tokens.pem},
    )
