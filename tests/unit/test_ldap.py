"""Logins by a directory: queries as RabbitMQ has them, and a back end against the directory in memory of ldap3.

A real directory, and RabbitMQ's plugin beside it: ``interop/test_login_backends.py``.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from amqp_broker.access.client import Peer
from amqp_broker.server.logins.backend import BackendFailed, Person
from amqp_broker.server.logins.failures import CannotAskBackend
from amqp_broker.server.logins.ldap_queries import RESOURCE, TOPIC, Question, fill_name, read_query, read_tag_queries
from amqp_broker.settings import Settings

ldap3 = pytest.importorskip("ldap3")

from amqp_broker.server.logins.ldap import DirectoryUser, LdapBackend  # noqa: E402 - only where ldap3 is
from amqp_broker.server.logins.ldap_directory import Directory, make_connection  # noqa: E402

PEER = Peer("10.0.0.1", 5, False)
ADA, BOB = "cn=ada,ou=people,dc=example", "cn=bob,ou=people,dc=example"
GROUPS: dict[str, dict[str, list[str]]] = {
    "cn=shop,ou=groups,dc=example": {"member": [ADA, "cn=clerks,ou=groups,dc=example"], "level": ["write", "read"]},
    "cn=clerks,ou=groups,dc=example": {"member": [BOB, "cn=loop,ou=groups,dc=example"]},
    "cn=loop,ou=groups,dc=example": {"member": ["cn=clerks,ou=groups,dc=example"]},
}


class Groups:
    """The groups above, as ``ldap_queries.Directory``."""

    def exists(self, dn: str, attribute: str = "", value: str = "") -> bool:
        return dn in GROUPS and (not attribute or value in GROUPS[dn].get(attribute, ()))

    def values(self, dn: str, attribute: str) -> list[str]:
        return GROUPS.get(dn, {}).get(attribute, [])

    def groups(self, attribute: str, value: str, *, is_subtree: bool) -> list[str]:
        return [dn for dn, attributes in GROUPS.items() if value in attributes.get(attribute, ())]


def answer(query: str, **said: str) -> bool:
    """What a query answers about ada, who wants to write to the queue shop.orders of shop."""
    variables = dict(zip(TOPIC, ("ada", ADA, "shop", "queue", "shop.orders", "write", "a.b"), strict=True))
    return read_query(query, TOPIC)(Question(Groups(), {**variables, **said}))


class TestQueries:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("{constant, true}", True),
            ("{constant, false}.", False),
            ('{exists, "cn=${vhost},ou=groups,dc=example"}', True),
            ('{exists, <<"cn=nobody,dc=example">>}', False),
            ('{in_group, "cn=shop,ou=groups,dc=example"}', True),
            ('{in_group, "cn=clerks,ou=groups,dc=example"}', False),
            ('{in_group, "cn=shop,ou=groups,dc=example", "level"}', False),
            ("{'not', {constant, true}}", False),
            ("{'and', [{constant, true}, {constant, false}]}", False),
            ("{'and', []}", True),
            ("{'or', [{constant, false}, {constant, true}]} % either", True),
            ("{for, [{permission, configure, {constant, false}}, {permission, write, {constant, true}}]}", True),
            ("{for, [{resource, exchange, {constant, true}}]}", False),
            ('{equals, "${username}", {string, "ada"}}', True),
            ('{equals, "${permission}", {attribute, "cn=shop,ou=groups,dc=example", "level"}}', True),
            ('{equals, "a", {attribute, "cn=nobody,dc=example", "level"}}', False),
            ('{match, "${name}", "^${vhost}\\\\."}', True),
            ('{match, "${routing_key}", {string, "^b"}}', False),
        ],
    )
    def test_what_each_answers(self, query: str, expected: bool) -> None:
        assert answer(query) is expected

    def test_groups_in_groups_are_found_once_each(self) -> None:
        query = '{in_group_nested, "CN=shop, ou=groups,dc=example"}'
        assert answer(query)
        assert answer(query, username="bob", user_dn=BOB)
        assert not answer(query, user_dn="cn=eve,ou=people,dc=example")
        assert not answer('{in_group_nested, "cn=no,dc=example", "member", subtree}', user_dn=BOB)

    def test_a_name_is_nothing_but_a_name(self) -> None:
        assert not answer('{match, "ada", "^${username}$"}', username=".*")
        assert not answer('{exists, "cn=${vhost},dc=example"}', vhost="shop,ou=groups")
        assert fill_name("cn=${username},dc=example", {"username": ' a,b=c+"\\<>;# '}) == (
            'cn=\\ a\\,b\\=c\\+\\"\\\\\\<\\>\\;#\\ ,dc=example'
        )
        assert fill_name("${username}@example", {"username": "a,b"}) == "a,b@example"

    def test_tags_have_queries(self) -> None:
        tags = read_tag_queries(
            '[{administrator, {in_group, "cn=shop,ou=groups,dc=example"}}, {management, {constant, false}}]'
        )
        question = Question(Groups(), {"username": "ada", "user_dn": ADA})
        assert [(tag, check(question)) for tag, check in tags] == [("administrator", True), ("management", False)]

    @pytest.mark.parametrize(
        ("query", "problem"),
        [
            ("", "is no term of Erlang at its end"),
            ("{constant, true", "lacks a comma or '}' at its end"),
            ("{constant, true}}", "goes on after its end at '}'"),
            ("{constant, Maybe}", "is no term of Erlang at 'Maybe}'"),
            ("{constant, maybe}", "has a part that is no query: {constant, maybe}"),
            ('{in_gruop, "cn=a"}', 'has a part that is no query: {in_gruop, "cn=a"}'),
            ('{exists, "cn=${routing_key}"}', "has ${routing_key}, and there are ${username}, ${user_dn}, ${vhost}"),
            ("{for, [{nothing, a, {constant, true}}]}", "has a case that is no {VARIABLE, VALUE, QUERY}: {nothing"),
            ('{equals, "a", {constant, true}}', "has a part that is no text: {constant, true}"),
            ("{'not', " * 200, "has more than 100 terms in each other"),
        ],
    )
    def test_a_mistake_is_told_at_the_start(self, query: str, problem: str) -> None:
        settings = Settings(auth_ldap_servers=("localhost",), auth_ldap_resource_access_query=query or " ")
        with pytest.raises(CannotAskBackend) as told:
            LdapBackend(settings)
        assert str(told.value).startswith(f"auth_ldap_resource_access_query {problem}")
        assert len(RESOURCE) < len(TOPIC)

    def test_without_a_directory_there_is_nobody_to_ask(self) -> None:
        with pytest.raises(CannotAskBackend, match="auth_ldap_servers is not set"):
            LdapBackend(Settings())


ENTRIES: dict[str, dict[str, Any]] = {
    ADA: {"objectClass": "person", "cn": "ada", "mail": "ada@example", "userPassword": "secret"},
    BOB: {"objectClass": "person", "cn": "bob", "mail": "bob@example", "userPassword": "other"},
    "cn=asking,dc=example": {"objectClass": "person", "cn": "asking", "userPassword": "asks"},
    "cn=admins,ou=groups,dc=example": {"objectClass": "groupOfNames", "cn": "admins", "member": [ADA]},
    "cn=staff,ou=groups,dc=example": {
        "objectClass": "groupOfNames",
        "cn": "staff",
        "member": ["cn=admins,ou=groups,dc=example"],
    },
}
SETTINGS = Settings(
    auth_ldap_servers=("in memory",),
    auth_ldap_user_dn_pattern="cn=${username},ou=people,dc=example",
    auth_ldap_tag_queries='[{administrator, {in_group, "cn=admins,ou=groups,dc=example"}}]',
    auth_ldap_vhost_access_query='{in_group_nested, "cn=${vhost},ou=groups,dc=example"}',
    auth_ldap_resource_access_query='{for, [{permission, write, {match, "${name}", "^${username}"}}]}',
    auth_ldap_topic_access_query='{equals, "${routing_key}", {attribute, "${user_dn}", "mail"}}',
    auth_ldap_group_lookup_base="ou=groups,dc=example",
)
BY_MAIL = replace(
    SETTINGS,
    auth_ldap_user_dn_pattern="${username}",
    auth_ldap_dn_lookup_attribute="mail",
    auth_ldap_dn_lookup_base="ou=people,dc=example",
    auth_ldap_dn_lookup_bind="cn=asking,dc=example",
    auth_ldap_dn_lookup_password="asks",
    auth_ldap_other_bind="cn=asking,dc=example",
    auth_ldap_other_password="asks",
)


def backend(settings: Settings) -> LdapBackend:
    """A back end that asks a directory in memory."""

    def make(_: Settings, host: str) -> Any:
        connection = ldap3.Connection(ldap3.Server(host, get_info=ldap3.NONE), client_strategy=ldap3.MOCK_SYNC)
        for dn, attributes in ENTRIES.items():
            connection.strategy.add_entry(dn, attributes)
        return connection

    return LdapBackend(settings, Directory(settings, make))


def log_in(settings: Settings, name: str, password: str | None) -> Person | None:
    return trio.run(backend(settings).authenticate, name, password, PEER)


class TestBackend:
    def test_who_can_log_in_there_can_here(self) -> None:
        assert log_in(SETTINGS, "ada", "secret") == DirectoryUser("ada", ("administrator",), dn=ADA, password=b"secret")
        bob = log_in(SETTINGS, "bob", "other")
        assert bob == DirectoryUser("bob", (), dn=BOB, password=b"other")
        assert "other" not in repr(bob)

    @pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("ada", ""), ("eve", "secret")])
    def test_who_cannot_is_nobody(self, name: str, password: str) -> None:
        assert log_in(SETTINGS, name, password) is None
        assert log_in(BY_MAIL, f"{name}@example", password) is None

    def test_nobodys_login_is_not_taken_for_a_users(self) -> None:
        assert log_in(replace(SETTINGS, auth_ldap_user_dn_pattern="${username}"), "", "secret") is None

    @pytest.mark.parametrize("who", ["as_user", "cn=asking,dc=example"])
    def test_a_user_is_looked_up_by_an_attribute(self, who: str) -> None:
        if who == "as_user":  # logs in with what the pattern gives, and is looked up after it
            settings = replace(BY_MAIL, auth_ldap_dn_lookup_attribute="cn", auth_ldap_dn_lookup_bind=who)
            settings = replace(settings, auth_ldap_user_dn_pattern="${username}", auth_ldap_dn_lookup_base="dc=example")
            with pytest.raises(BackendFailed, match="there is no user with cn"):
                log_in(settings, ADA, "secret")
        else:
            assert log_in(BY_MAIL, "ada@example", "secret") == DirectoryUser("ada@example", ("administrator",), dn=ADA)

    def test_what_a_user_may_do_is_asked(self) -> None:
        asked = backend(SETTINGS)
        ada = DirectoryUser("ada", (), dn=ADA, password=b"secret")
        assert trio.run(asked.may_enter, ada, "staff", PEER)
        assert not trio.run(asked.may_enter, ada, "shop", PEER)
        assert trio.run(asked.may_access, ada, "staff", "queue", "ada.1", "write")
        assert not trio.run(asked.may_access, ada, "staff", "queue", "ada.1", "read")
        assert trio.run(asked.may_use_topic, ada, "staff", "amq.topic", "ada@example", "write")
        assert not trio.run(asked.may_use_topic, ada, "staff", "amq.topic", "bob@example", "write")

    def test_whose_name_a_certificate_proved_must_be_there(self) -> None:
        assert log_in(BY_MAIL, "ada@example", None) == DirectoryUser("ada@example", ("administrator",), dn=ADA)
        assert log_in(BY_MAIL, "eve@example", None) is None
        with pytest.raises(BackendFailed, match="set auth_ldap_other_bind to anon or to a name"):
            log_in(SETTINGS, "ada", None)

    def test_somebody_whom_another_knows_is_looked_up(self) -> None:
        asked = backend(BY_MAIL)
        assert trio.run(asked.may_enter, Person("ada@example"), "staff", PEER)
        assert not trio.run(asked.may_enter, Person("eve@example"), "staff", PEER)

    def test_who_asks_must_be_able_to(self) -> None:
        with pytest.raises(BackendFailed, match="'cn=asking,dc=example' cannot log in"):
            log_in(replace(BY_MAIL, auth_ldap_other_password="wrong"), "ada@example", "secret")

    def test_a_directory_that_is_not_there_is_named(self) -> None:
        with pytest.raises(BackendFailed, match=r"no directory can be reached: 127.0.0.1: .*refused"):
            trio.run(
                LdapBackend(replace(SETTINGS, auth_ldap_servers=("127.0.0.1",), auth_ldap_port=1)).authenticate,
                "ada",
                "secret",
                PEER,
            )

    def test_a_directory_that_is_silent_holds_up_no_work_of_others(self) -> None:
        """Its threads last longer than anybody waits for them."""
        is_over = threading.Event()

        def make(_: Settings, host: str) -> Any:
            is_over.wait()
            raise BackendFailed("the test is over")

        async def test() -> None:
            asked = LdapBackend(SETTINGS, Directory(SETTINGS, make))
            others = trio.to_thread.current_default_thread_limiter()
            async with trio.open_nursery() as nursery:
                for number in range(int(others.total_tokens) + 1):
                    nursery.start_soon(asked.authenticate, f"ada{number}", "secret", PEER)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert others.borrowed_tokens == 0
            is_over.set()

        try:
            trio.run(test)
        finally:
            is_over.set()

    def test_tls_needs_a_certificate_of_an_authority(self) -> None:
        import ssl

        connection = make_connection(replace(SETTINGS, auth_ldap_tls="on"), "localhost")
        assert connection.server.ssl
        assert connection.server.tls.validate is ssl.CERT_REQUIRED
        with pytest.raises(CannotAskBackend, match="auth_ldap_tls_ca names nowhere, which is no file"):
            LdapBackend(replace(SETTINGS, auth_ldap_tls_ca="nowhere"))
