"""The reasons why a member of etcd cannot be called, or refuses, in words for who has named it in the settings."""

from __future__ import annotations

import os
import socket
import ssl
from typing import Final

from amqp_broker.etcd.calls import ConnectionFailed
from amqp_broker.explanations import system_reason

_WANTS_TLS: Final = "it closes the connection without a word, as one with TLS does (etcds:// in place of etcd://)"
_NO_TLS: Final = "it does not begin TLS, as it seems (etcd:// in place of etcds:// is without)"
_WANTS_CERTIFICATE: Final = "it wants a certificate that it accepts, as it seems (etcd_certificate, etcd_key)"
_NO_TLS_REASONS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_CERTIFICATE_REASONS: Final = (  # in OpenSSL's words, what a member says of this node's certificate, or of none
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "TLSV1_ALERT_DECRYPT_ERROR",
    "TLSV1_ALERT_UNKNOWN_CA",
)
_WRONG_NAME: Final = (62, 64)  # of X509_verify_cert: another name, another IP address
_CLOSED: Final = (ConnectionFailed, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)


def why_unreachable(error: BaseException, *, is_tls: bool) -> str:
    """Why no connection to a member came about.

    Args:
        error: as it was raised; of one that has no more to say than that it failed, the cause counts.
        is_tls: whether it was to be encrypted.
    """
    known = _cause_of(error)
    if is_tls and (isinstance(known, _CLOSED) or (isinstance(known, ssl.SSLError) and known.reason in _NO_TLS_REASONS)):
        return _NO_TLS
    return _said(known)


def why_ended(error: BaseException, *, is_tls: bool, has_heard: bool) -> str:
    """Why a connection to a member has ended.

    Args:
        error: likewise.
        is_tls: whether it was encrypted.
        has_heard: whether the member had said anything.
    """
    known = _cause_of(error)
    if isinstance(known, _CLOSED) and not has_heard:
        return _WANTS_CERTIFICATE if is_tls else _WANTS_TLS
    return _said(known)


def login_advice(refusal: Exception) -> str:
    """What etcd has said of the user that a node is, and the way out."""
    if "permission denied" in str(refusal):
        may = "the user in the setting cluster has to read and write all keys that begin with amqp-broker/ and its name"
        return f"{refusal}: {may}; a backup wants the role root"
    return f"{refusal}: look at the user and password in the setting cluster"


def _cause_of(error: BaseException) -> BaseException:
    """Where TLS or each address of a name failed, the cause knows more than trio does."""
    known = error
    while not (isinstance(known, OSError) and known.strerror) and known.__cause__ is not None:
        known = known.__cause__
        if isinstance(known, BaseExceptionGroup):
            known = known.exceptions[0]
    return known


def _said(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAME:
            return f"its certificate is for another host ({error.verify_message.rstrip('.')})"
        return f"its certificate is not accepted ({error.verify_message}): etcd_ca names who may have signed it"
    if isinstance(error, ssl.SSLError):
        is_of_ours = error.reason in _CERTIFICATE_REASONS
        return _WANTS_CERTIFICATE if is_of_ours else f"TLS has failed: OpenSSL calls it {error.reason}"
    if isinstance(error, TimeoutError) and not error.errno:
        return "it does not answer in time"
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)  # trio's own words have the address once more
    return system_reason(error) if isinstance(error, OSError) else str(error)
