"""Certificates that cannot be used: which file, why, and what to do about it, in words of our own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme

from amqp_broker.network.tls import BadCertificate, TlsContext
from amqp_broker.settings import Settings

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certificates")
    one, other = AUTHORITY.issue_cert("localhost"), AUTHORITY.issue_cert("localhost")
    one.private_key_and_cert_chain_pem.write_to_path(str(path / "both.pem"))
    one.cert_chain_pems[0].write_to_path(str(path / "certificate.pem"))
    other.private_key_pem.write_to_path(str(path / "other-key.pem"))
    (path / "no.pem").write_text("nothing of the kind")
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
