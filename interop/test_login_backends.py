"""Logins and permissions that others decide: over HTTP, by tokens (OAuth 2), by a directory (LDAP).

Asked of RabbitMQ 3.10.8 with its plugins and of ours; both ask the same service, keys and slapd. One broker of each has
all three, behind its own users; a test's users are known to one alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from interop import brokers
from interop.login_services import AUDIENCE, KEY_NAME, Directory, Fields, HttpService, Tokens, find_slapd
from interop.raw_client import NO_CAUSE, Basic, ChannelUnderTest, Client, Connection, Exchange, Queue
from interop.under_test import BrokerUnderTest

SERIES = "3.10"
PATHS = ("user", "vhost", "resource", "topic")
REFUSED = "Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
PEOPLE = "ou=people,dc=example"
GROUPS = "ou=groups,dc=example"
PERSON = {"objectClass": ["person"], "sn": ["x"]}
ENTRIES: dict[str, dict[str, list[str]]] = {
    "dc=example": {"objectClass": ["dcObject", "organization"], "dc": ["example"], "o": ["example"]},
    PEOPLE: {"objectClass": ["organizationalUnit"], "ou": ["people"]},
    GROUPS: {"objectClass": ["organizationalUnit"], "ou": ["groups"]},
    f"cn=dora,{PEOPLE}": {**PERSON, "cn": ["dora"], "userPassword": ["secret"], "description": ["orders.new"]},
    f"cn=egon,{PEOPLE}": {**PERSON, "cn": ["egon"], "userPassword": ["secret"]},
    f"cn=staff,{GROUPS}": {"objectClass": ["groupOfNames"], "cn": ["staff"], "member": [f"cn=shop,{GROUPS}"]},
    f"cn=shop,{GROUPS}": {"objectClass": ["groupOfNames"], "cn": ["shop"], "member": [f"cn=dora,{PEOPLE}"]},
}
VHOST_QUERY = f"""{{'and', [{{equals, "${{vhost}}", "/"}}, {{in_group_nested, "cn=staff,{GROUPS}"}}]}}"""
RESOURCE_QUERY = f"""
    {{for, [{{permission, configure, {{'or', [{{match, {{string, "${{name}}"}}, {{string, "^${{username}}-"}}}},
                                              {{match, {{string, "${{name}}"}}, {{string, "^amq\\\\."}}}}]}}}},
            {{permission, write, {{in_group, "cn=shop,{GROUPS}"}}}},
            {{permission, read, {{'not', {{equals, "${{name}}", "dora-secret"}}}}}}]}}"""
TOPIC_QUERY = """{equals, "${routing_key}", {attribute, "${user_dn}", "description"}}"""
LOGIN_CONFIG = f"""\
auth_backends.1 = internal
auth_backends.2 = http
auth_backends.3 = rabbit_auth_backend_oauth2
auth_backends.4 = ldap
auth_http.http_method = post
auth_http.user_path = URL/user
auth_http.vhost_path = URL/vhost
auth_http.resource_path = URL/resource
auth_http.topic_path = URL/topic
auth_oauth2.resource_server_id = {AUDIENCE}
auth_oauth2.default_key = {KEY_NAME}
auth_oauth2.signing_keys.{KEY_NAME} = FOLDER/token-key.pem
auth_ldap.servers.1 = 127.0.0.1
auth_ldap.port = PORT
auth_ldap.user_dn_pattern = cn=${{username}},{PEOPLE}
auth_ldap.group_lookup_base = {GROUPS}
"""


class Services:
    """What is asked, and the broker that asks."""

    def __init__(self, folder: Path) -> None:
        self.http = HttpService()
        self.tokens = Tokens(folder)
        self.directory = None if find_slapd() is None else Directory(ENTRIES)
        self._process: brokers.RabbitMQ | brokers.OurBroker | None = None
        self._choice: brokers.Choice | None = None

    def broker(self, choice: brokers.Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        """The broker of this choice; the one before it ends."""
        if self._process is None or choice != self._choice:
            if self._process is not None:
                self._process.stop()
            self._process, self._choice = self._start(choice), choice
        return self._process

    def _start(self, choice: brokers.Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        port = 1 if self.directory is None else self.directory.port
        queries = {"vhost_access": VHOST_QUERY, "resource_access": RESOURCE_QUERY, "topic_access": TOPIC_QUERY}
        terms = ", ".join(f"{{{name}_query, {query}}}" for name, query in queries.items())
        environment = {
            "AUTH_BACKENDS": "internal,http,oauth2,ldap",
            "AUTH_HTTP_METHOD": "post",
            **{f"AUTH_HTTP_{path.upper()}_PATH": f"{self.http.url}/{path}" for path in PATHS},
            "AUTH_OAUTH2_RESOURCE_SERVER_ID": AUDIENCE,
            "AUTH_OAUTH2_JWKS": str(self.tokens.jwks),
            "AUTH_LDAP_SERVERS": "127.0.0.1",
            "AUTH_LDAP_PORT": str(port),
            "AUTH_LDAP_USER_DN_PATTERN": f"cn=${{username}},{PEOPLE}",
            "AUTH_LDAP_GROUP_LOOKUP_BASE": GROUPS,
            **{f"AUTH_LDAP_{name.upper()}_QUERY": query for name, query in queries.items()},
        }
        names = ("http", "oauth2", "ldap")
        return choice.start(
            config=LOGIN_CONFIG.replace("URL", self.http.url).replace("PORT", str(port)),
            advanced=f"[{{rabbitmq_auth_backend_ldap, [{terms}]}}].",
            plugins=[f"rabbitmq_auth_backend_{name}" for name in names],
            files={"token-key.pem": self.tokens.pem},
            environment={f"AMQP_BROKER_{name}": value for name, value in environment.items()},
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
        if self.directory is not None:
            self.directory.stop()
        self.http.stop()


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    started = Services(tmp_path_factory.mktemp("logins"))
    yield started
    started.stop()


class Logins:
    """One broker as somebody sees it whom its back ends know."""

    def __init__(self, services: Services, broker: BrokerUnderTest) -> None:
        self.services = services
        self.broker = broker
        self._address = services.broker(broker.choice).address
        self.clients: list[Client] = []

    def begin(self, user: str, password: str) -> Client:
        """A connection that has said who it is."""
        client = Client(self._address.host, self._address.port)
        self.clients.append(client)
        client.begin()
        client.send_start_ok(user=user, password=password)
        return client

    def refused(self, user: str, password: str) -> None:
        self.begin(user, password).expect_connection_close(403, REFUSED, cause=NO_CAUSE, then="stay")

    def entered(self, user: str, password: str) -> ChannelUnderTest:
        """A channel in the virtual host /."""
        client = self.begin(user, password)
        client.expect_tune()
        client.send_tune_ok()
        client.open("/")
        return client.channel()

    def kept_out(self, user: str, password: str, text: str) -> None:
        client = self.begin(user, password)
        client.expect_tune()
        client.send_tune_ok()
        client.send(Connection.Open, virtual_host="/")
        client.expect_connection_close(530, text, cause=Connection.Open)


@pytest.fixture
def logins(services: Services, broker: BrokerUnderTest) -> Iterator[Logins]:
    if broker.choice.series != SERIES:
        pytest.skip(f"RabbitMQ {SERIES} is the judge of these")
    under_test = Logins(services, broker)
    yield under_test
    for client in under_test.clients:
        client.close()


def no_access(permission: str, kind: str, name: str, user: str) -> str:
    """The text of a refusal; 3.10 does not say which permission was missing."""
    return f"access to {kind} '{name}' in vhost '/' refused for user '{user}'"


# --- HTTP


def test_http_is_asked_by_forms(logins: Logins) -> None:
    http = logins.services.http
    http.knows("hana", lambda path, fields: (200, "allow administrator management" if path == "user" else "allow"))
    ch = logins.entered("hana", "pä&ss=+ %")
    ch.declare("hana-q", auto_delete=True, exclusive=True)
    ch.bind("hana-q", "amq.topic", "a.*")
    ch.confirm()
    ch.publish("amq.topic", "a.b", b"one")
    ch.await_confirms(1)
    assert ch.drain("hana-q") == [b"one"]
    who: Fields = {"username": "hana", "vhost": "/", "tags": "administrator management"}
    topic: Fields = {"variable_map.username": "hana", "variable_map.vhost": "/"}
    assert [
        (method, path, {name: value for name, value in fields.items() if name not in ("ip",)})
        for method, path, fields in http.asked("hana")
    ] == [
        ("POST", "/user", {"username": "hana", "password": "pä&ss=+ %"}),
        ("POST", "/vhost", who),
        ("POST", "/resource", {**who, "resource": "queue", "name": "hana-q", "permission": "configure"}),
        ("POST", "/resource", {**who, "resource": "queue", "name": "hana-q", "permission": "write"}),
        ("POST", "/resource", {**who, "resource": "exchange", "name": "amq.topic", "permission": "read"}),
        (
            "POST",
            "/topic",
            {**who, **topic, "resource": "topic", "name": "amq.topic", "permission": "read", "routing_key": "a.*"},
        ),
        ("POST", "/resource", {**who, "resource": "exchange", "name": "amq.topic", "permission": "write"}),
        (
            "POST",
            "/topic",
            {**who, **topic, "resource": "topic", "name": "amq.topic", "permission": "write", "routing_key": "a.b"},
        ),
        ("POST", "/resource", {**who, "resource": "queue", "name": "hana-q", "permission": "read"}),
    ]


@pytest.mark.parametrize(
    ("user", "status", "text"),
    [("hd", 200, "deny"), ("hn", 200, "maybe"), ("he", 500, "allow"), ("hm", 404, "allow")],
    ids=["denied", "neither", "failed", "missing"],
)
def test_http_and_no_login(logins: Logins, user: str, status: int, text: str) -> None:
    logins.services.http.knows(user, lambda path, fields: (status, text))
    logins.refused(user, "secret")


@pytest.mark.parametrize(("status", "text"), [(200, "allow"), (200, "ALLOW\n"), (201, "allow management")])
def test_http_and_a_login(logins: Logins, status: int, text: str) -> None:
    user = f"h{status}{len(text)}"
    logins.services.http.knows(user, lambda path, fields: (status, text if path == "user" else "allow"))
    logins.entered(user, "secret")


def test_http_and_no_virtual_host(logins: Logins) -> None:
    logins.services.http.knows("hv", lambda path, fields: (200, "deny" if path == "vhost" else "allow"))
    logins.kept_out("hv", "secret", "access to vhost '/' refused for user 'hv'")


def test_http_and_no_permission(logins: Logins) -> None:
    def answer(path: str, fields: Fields) -> tuple[int, str]:
        is_allowed = fields.get("permission") != "write" and fields.get("name") != "hp-not"
        return 200, "allow" if path in ("user", "vhost") or is_allowed else "deny"

    logins.services.http.knows("hp", answer)
    ch = logins.entered("hp", "secret")
    ch.declare("hp-q", exclusive=True)
    ch.send(Queue.Declare, queue="hp-not", exclusive=True)
    ch.expect_close(403, no_access("configure", "queue", "hp-not", "hp"), cause=Queue.Declare)
    ch = ch.reopen()
    ch.publish("amq.direct", "", b"")
    ch.expect_close(403, no_access("write", "exchange", "amq.direct", "hp"), cause=Basic.Publish)


def test_http_and_no_topic(logins: Logins) -> None:
    logins.services.http.knows(
        "ht", lambda path, fields: (200, "deny" if fields.get("routing_key") == "not" else "allow")
    )
    ch = logins.entered("ht", "secret")
    ch.publish("amq.topic", "fine", b"")
    ch.publish("amq.topic", "not", b"")
    text = "access to topic 'not' in exchange 'amq.topic' in vhost '/' refused for user 'ht'"
    ch.expect_close(403, text, cause=Basic.Publish)


# --- OAuth 2


def test_a_token_says_what_is_allowed(logins: Logins) -> None:
    scopes = [
        f"{AUDIENCE}.{one}" for one in ("configure:%2F/tess-*", "write:*/tess-*", "read:*/*/a.*", "write:*/amq.*")
    ]
    ch = logins.entered("", logins.services.tokens.token(scope=scopes))
    ch.declare("tess-q", exclusive=True)
    ch.bind("tess-q", "amq.topic", "a.b")
    ch.send(Queue.Bind, queue="tess-q", exchange="amq.topic", routing_key="b")
    text = "access to topic 'b' in exchange 'amq.topic' in vhost '/' refused for user 'tess'"
    ch.expect_close(403, text, cause=Queue.Bind)
    ch = ch.reopen()
    ch.send(Queue.Declare, queue="other", exclusive=True)
    ch.expect_close(403, no_access("configure", "queue", "other", "tess"), cause=Queue.Declare)
    ch = ch.reopen()
    ch.send(Exchange.Declare, exchange="tess-x", exchange_type="fanout", auto_delete=True)
    ch.expect(Exchange.DeclareOk)
    ch.call(Exchange.Delete, exchange="tess-x")


def test_a_token_for_no_virtual_host(logins: Logins) -> None:
    token = logins.services.tokens.token(scope=[f"{AUDIENCE}.read:other/*"])
    logins.kept_out("", token, "access to vhost '/' refused for user 'tess'")


@pytest.mark.parametrize("claims", [{"aud": ["another"]}, {"exp": 1}], ids=["another audience", "expired"])
def test_a_token_that_is_not_taken(logins: Logins, claims: dict[str, object]) -> None:
    logins.refused("", logins.services.tokens.token(scope=[f"{AUDIENCE}.read:*/*"], **claims))


def test_a_token_of_another_key(logins: Logins, tmp_path: Path) -> None:
    logins.refused("", Tokens(tmp_path).token(scope=[f"{AUDIENCE}.read:*/*"]))


def test_a_token_is_renewed(logins: Logins) -> None:
    tokens = logins.services.tokens
    ch = logins.entered("", tokens.token(scope=[f"{AUDIENCE}.configure:*/one"]))
    ch.declare("one", exclusive=True)
    more = tokens.token(scope=[f"{AUDIENCE}.configure:*/*"])
    ch.client.call(Connection.UpdateSecret, new_secret=more, reason="it ends")
    ch.declare("two", exclusive=True)


# --- LDAP


@pytest.fixture
def ldap(logins: Logins) -> Logins:
    if logins.services.directory is None:
        pytest.skip("slapd is not installed")
    return logins


def test_a_directory_says_what_is_allowed(ldap: Logins) -> None:
    ch = ldap.entered("dora", "secret")
    ch.declare("dora-q", exclusive=True)
    ch.bind("dora-q", "amq.topic", "orders.new")
    ch.confirm()
    ch.publish("amq.topic", "orders.new", b"one")
    ch.await_confirms(1)
    assert ch.drain("dora-q") == [b"one"]
    ch.publish("amq.topic", "orders.old", b"two")
    text = "access to topic 'orders.old' in exchange 'amq.topic' in vhost '/' refused for user 'dora'"
    ch.expect_close(403, text, cause=Basic.Publish)
    ch = ch.reopen()
    ch.send(Queue.Declare, queue="other", exclusive=True)
    ch.expect_close(403, no_access("configure", "queue", "other", "dora"), cause=Queue.Declare)
    ch = ch.reopen()
    ch.declare("dora-secret", exclusive=True)
    ch.send(Basic.Get, queue="dora-secret")
    ch.expect_close(403, no_access("read", "queue", "dora-secret", "dora"), cause=Basic.Get)


def test_who_is_in_no_group_of_a_group(ldap: Logins) -> None:
    ldap.kept_out("egon", "secret", "access to vhost '/' refused for user 'egon'")


@pytest.mark.parametrize(("user", "password"), [("dora", "wrong"), ("dora", ""), ("fritz", "secret")])
def test_no_login_of_the_directory(ldap: Logins, user: str, password: str) -> None:
    ldap.refused(user, password)
