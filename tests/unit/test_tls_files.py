"""Certificates that cannot be used: which file, why, and what to do about it, in words of our own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from amqp_broker.client.connection import _tls as tls_of_client
from amqp_broker.client.uri import parse_uri
from amqp_broker.cluster.configuration import _tls as tls_for_etcd
from amqp_broker.explanations import HasPassword
from amqp_broker.network.tls import BadCertificate, TlsContext
from amqp_broker.settings import SettingError, Settings

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certificates")
    one, other = AUTHORITY.issue_cert("localhost"), AUTHORITY.issue_cert("localhost")
    one.private_key_and_cert_chain_pem.write_to_path(str(path / "both.pem"))
    one.cert_chain_pems[0].write_to_path(str(path / "certificate.pem"))
    other.private_key_pem.write_to_path(str(path / "other-key.pem"))
    (path / "no.pem").write_text("nothing of the kind")
    key = serialization.load_pem_private_key(one.private_key_pem.bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (path / "secret.pem").write_bytes(key.private_bytes(*form, secret))
    return path


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"tls_certificate": "gone.pem"}, r"gone.pem' \(tls_certificate\) .*: No such file or directory: name a file"),
        ({"tls_certificate": "both.pem", "tls_key": "gone.pem"}, r"^'\S*gone.pem' \(tls_key\) .*No such file"),
        ({"tls_certificate": "no.pem"}, "there is not both a certificate and its key, in PEM format"),
        ({"tls_certificate": "certificate.pem"}, "name the file that has the key with tls_key"),
        (
            {"tls_certificate": "certificate.pem", "tls_key": "other-key.pem"},
            r"certificate.pem' \(tls_certificate\) and '\S*other-key.pem' \(tls_key\) .*belongs to another certificate",
        ),
        ({"tls_certificate": "certificate.pem", "tls_key": "secret.pem"}, "the key has a password: take it off"),
        (
            {"tls_certificate": "both.pem", "tls_ca": "no.pem", "tls_client_certificate": "required"},
            r"no.pem' \(tls_ca\) .*no certificate of an authority",
        ),
    ],
)
def test_the_file_the_reason_and_the_way_out(given: dict[str, str], refusal: str, folder: Path) -> None:
    files = {name: str(folder / value) if value.endswith(".pem") else value for name, value in given.items()}
    with pytest.raises(BadCertificate) as refused:
        TlsContext(Settings(**files))  # type: ignore[arg-type]
    text = str(refused.value)
    assert re.search(refusal, text)
    assert not re.search(r"_ssl|Errno|\[SSL|PEM lib", text)


def test_nobody_is_asked_for_the_password_of_a_key_for_connections_to_others(folder: Path) -> None:
    certificate, key = folder / "certificate.pem", folder / "secret.pem"
    with pytest.raises(HasPassword, match="the key has a password: take it off"):
        tls_of_client(parse_uri(f"amqps://localhost?certfile={certificate}&keyfile={key}"))
    with pytest.raises(SettingError, match="the key has a password: take it off"):
        tls_for_etcd(Settings(etcd_certificate=str(certificate), etcd_key=str(key)))
