"""What brokers ask about logins: a service over HTTP, keys that sign tokens, a directory.

Not here: what is asked of the brokers then (test_login_backends.py).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from interop.brokers import START_TIMEOUT_S, end_process, free_ports, start_process

Fields = dict[str, str]
KEY_NAME = "one"
AUDIENCE = "broker"
FAR_S = 4_000_000_000  # seconds since 1970


class HttpService:
    """Answers for RabbitMQ's HTTP back end as it is told, and remembers what was asked.

    It denies whom it does not know.
    """

    def __init__(self) -> None:
        self._answers: dict[str, Callable[[str, Fields], tuple[int, str]]] = {}
        self._asked: dict[str, list[tuple[str, str, Fields]]] = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                self._say(parts.path, parts.query)

            def do_POST(self) -> None:
                self._say(self.path, self.rfile.read(int(self.headers["Content-Length"])).decode())

            def _say(self, path: str, form: str) -> None:
                status, text = service.answer(self.command, path, dict(parse_qsl(form, keep_blank_values=True)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, method: str, path: str, fields: Fields) -> tuple[int, str]:
        user = fields.get("username", "")
        self._asked.setdefault(user, []).append((method, path, fields))
        answer = self._answers.get(user)
        return (200, "deny") if answer is None else answer(path.lstrip("/"), fields)

    def knows(self, user: str, answer: Callable[[str, Fields], tuple[int, str]]) -> None:
        """From now on `answer` says status and text for what is asked about a user, by the path's last part."""
        self._answers[user] = answer

    def asked(self, user: str) -> list[tuple[str, str, Fields]]:
        """What was asked about a user: method, path, fields; each once, for brokers remember differently long."""
        found: list[tuple[str, str, Fields]] = []
        for one in self._asked.get(user, []):
            if one not in found:
                found.append(one)
        return found

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Tokens:
    """A key that signs tokens, and its forms: `pem`, `jwks` are files for brokers, `private_pem` is for who signs."""

    def __init__(self, folder: Path, *, key_name: str = KEY_NAME) -> None:
        self._key_name = key_name
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = self._key.public_key()
        self.pem = folder / "token-key.pem"
        self.pem.write_bytes(
            public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        self.private_pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.jwks = folder / "keys.json"
        key = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(public)), "kid": key_name, "alg": "RS256"}
        self.jwks.write_text(json.dumps({"keys": [key]}))

    def token(self, **claims: Any) -> str:
        """A token for AUDIENCE that lasts; `claims` change it."""
        said = {"aud": [AUDIENCE], "sub": "tess", "exp": FAR_S, "scope": [], **claims}
        return jwt.encode(said, self._key, algorithm="RS256", headers={"kid": self._key_name})


SLAPD = """\
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile FOLDER/pid
database mdb
suffix dc=example
rootdn cn=root,dc=example
directory FOLDER
"""


class Directory:
    """OpenLDAP's slapd with some entries, in a folder of its own.

    Args:
        entries: attributes by distinguished name, those above before those below.
    """

    def __init__(self, entries: dict[str, dict[str, list[str]]]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="interop-slapd-"))
        configuration = self._folder / "slapd.conf"
        configuration.write_text(SLAPD.replace("FOLDER", str(self._folder)))
        data = self._folder / "entries.ldif"
        data.write_text(
            "\n\n".join(
                "\n".join([f"dn: {dn}", *(f"{name}: {value}" for name, values in said.items() for value in values)])
                for dn, said in entries.items()
            )
        )
        slapd = find_slapd()
        if slapd is None:
            raise RuntimeError("slapd is not installed")
        adding = [slapd, "-T", "add", "-f", str(configuration), "-l", str(data)]
        subprocess.run(adding, check=True, capture_output=True)
        (self.port,) = free_ports(1)
        command = [slapd, "-f", str(configuration), "-h", f"ldap://127.0.0.1:{self.port}", "-d", "0"]
        self._process = start_process(command, os.environ)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"slapd does not listen on port {self.port}")

    def stop(self) -> None:
        end_process(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)


def find_slapd() -> str | None:
    """The program `slapd` of this machine, or None. Debian has it where only root's PATH looks."""
    return shutil.which("slapd") or shutil.which("slapd", path="/usr/sbin:/usr/local/sbin")
