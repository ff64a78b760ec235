"""Questions to a directory as RabbitMQ's LDAP plugin has them: ``{in_group, "cn=${vhost},ou=groups,dc=example"}``.

Each is a term of Erlang, in the plugin's words (RabbitMQ docs, "LDAP plugin"): ``constant``, ``in_group``,
``in_group_nested``, ``exists``, ``for``, ``not``, ``and``, ``or``, ``equals``, ``match``, ``string`` and ``attribute``.
It is read once, at the start, where a mistake is told. Holds no LDAP: what a directory must answer is ``Directory``.

Two things are stricter than there. What stands for a variable in a distinguished name is escaped, and so is what stands
for one in the pattern of ``match``: who is called ``ada,ou=admins`` or ``.*`` is nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from amqp_broker.access.patterns import BadPattern, Pattern
from amqp_broker.server.logins.backend import BackendFailed
from amqp_broker.server.logins.erlang_terms import Atom, BadTerm, read_term

USER_DN: Final = "user_dn"
USER: Final = ("username", USER_DN)
VHOST: Final = (*USER, "vhost")
RESOURCE: Final = (*VHOST, "resource", "name", "permission")
TOPIC: Final = (*RESOURCE, "routing_key")
"""The variables of each kind of question."""

SHOWN_CHARACTERS: Final = 80
GROUPS_MAX: Final = 1000  # that are looked at for one answer where groups are in groups

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_ESCAPED_IN_DN = frozenset(',+"\\<>;=')


class BadQuery(ValueError):
    """A query is none; what is said names the part."""


class Directory(Protocol):
    """The look-ups that are made in a directory."""

    def exists(self, dn: str, attribute: str = "", value: str = "") -> bool:
        """Whether there is an object; with an attribute, whether it has that value there."""

    def values(self, dn: str, attribute: str) -> list[str]:
        """What an object's attribute has; nothing where there is no such object."""

    def groups(self, attribute: str, value: str, *, is_subtree: bool) -> list[str]:
        """The distinguished names of all groups whose attribute has a value."""


@dataclass(frozen=True, slots=True)
class Question:
    """The context of an LDAP query: the directory that is asked, and the values of variables.

    Args:
        directory: who answers.
        variables: the values that stand for ``${...}``.
    """

    directory: Directory
    variables: Mapping[str, str]


Check = Callable[[Question], bool]
Texts = Callable[[Question], list[str]]


def read_query(text: str, variables: Sequence[str]) -> Check:
    """A query that is answered with yes or no.

    Args:
        variables: which there are.

    Raises:
        BadQuery: it is none.
    """
    return _Reading(variables).check(_term(text))


def read_tag_queries(text: str) -> list[tuple[str, Check]]:
    """Tags, each with the query that says who has it: ``[{administrator, {in_group, "..."}}]``.

    Raises:
        BadQuery: it is no list of such.
    """
    term = _term(text)
    if not isinstance(term, list) or not all(isinstance(one, tuple) and len(one) == 2 for one in term):
        raise BadQuery("is no list of {TAG, QUERY}")
    reading = _Reading(USER)
    return [(str(tag), reading.check(query)) for tag, query in term]


def fill_name(pattern: str, variables: Mapping[str, str]) -> str:
    """A distinguished name, or a name to log in with, of a pattern. What stands for a variable is escaped where the
    pattern is a distinguished name; ``user_dn`` is one already."""
    is_dn = "=" in pattern

    def value(found: re.Match[str]) -> str:
        text = variables[found[1]]
        return escape_in_dn(text) if is_dn and found[1] != USER_DN else text

    return _VARIABLE.sub(value, pattern)


def escape_in_dn(text: str) -> str:
    """A text as it stands in a distinguished name (RFC 4514, section 2.4)."""
    escaped = "".join("\\00" if one == "\0" else f"\\{one}" if one in _ESCAPED_IN_DN else one for one in text)
    if escaped.endswith(" "):
        escaped = f"{escaped[:-1]}\\ "
    return f"\\{escaped}" if escaped[:1] in (" ", "#") else escaped


def check_variables(pattern: str, variables: Sequence[str]) -> None:
    """Make sure that a pattern has variables only that there are.

    Raises:
        BadQuery: it has others.
    """
    for name in _VARIABLE.findall(pattern):
        if name not in variables:
            raise BadQuery(f"has ${{{name}}}, and there are {', '.join(f'${{{one}}}' for one in variables)}")


def _normal(dn: str) -> str:
    """A distinguished name as it is compared: without regard to upper case and blanks."""
    return re.sub(r"\s*([,=+])\s*", r"\1", dn.strip()).casefold()


def _term(text: str) -> Any:
    try:
        return read_term(text)
    except BadTerm as error:
        raise BadQuery(str(error)) from error


class _Reading:
    """Makes a query of a term."""

    def __init__(self, variables: Sequence[str]) -> None:
        self._variables = variables

    def check(self, term: Any) -> Check:
        """A query of yes or no."""
        match term:
            case (Atom("constant"), Atom("true" | "false") as value):
                return lambda question: value == "true"
            case (Atom("exists"), str(dn)):
                pattern = self._pattern(dn)
                return lambda question: question.directory.exists(fill_name(pattern, question.variables))
            case (Atom("in_group"), str(dn)):
                return self._in_group(dn, "member")
            case (Atom("in_group"), str(dn), str(attribute)):
                return self._in_group(dn, attribute)
            case (Atom("in_group_nested"), str(dn)):
                return self._in_group_nested(dn, "member", is_subtree=True)
            case (Atom("in_group_nested"), str(dn), str(attribute)):
                return self._in_group_nested(dn, attribute, is_subtree=True)
            case (Atom("in_group_nested"), str(dn), str(attribute), Atom("subtree" | "singlelevel") as scope):
                return self._in_group_nested(dn, attribute, is_subtree=scope == "subtree")
            case (Atom("for"), list(cases)):
                return self._for(cases)
            case (Atom("not"), query):
                negated = self.check(query)
                return lambda question: not negated(question)
            case (Atom("and"), list(queries)):
                both = [self.check(one) for one in queries]
                return lambda question: all(one(question) for one in both)
            case (Atom("or"), list(queries)):
                either = [self.check(one) for one in queries]
                return lambda question: any(one(question) for one in either)
            case (Atom("equals"), first, second):
                left, right = self.texts(first), self.texts(second)
                return lambda question: not set(left(question)).isdisjoint(right(question))
            case (Atom("match"), subject, pattern):
                return self._match(subject, pattern)
        raise BadQuery(f"has a part that is no query: {_shown(term)}")

    def texts(self, term: Any, *, in_pattern: bool = False) -> Texts:
        """A query whose answer is a text, or the values of an attribute."""
        match term:
            case (Atom("string"), str(text)):
                return self._string(text, in_pattern=in_pattern)
            case str(text) if not isinstance(text, Atom):
                return self._string(text, in_pattern=in_pattern)
            case (Atom("attribute"), str(dn), str(attribute)):
                pattern = self._pattern(dn)
                return lambda question: question.directory.values(fill_name(pattern, question.variables), attribute)
        raise BadQuery(f"has a part that is no text: {_shown(term)}")

    def _pattern(self, pattern: str) -> str:
        check_variables(pattern, self._variables)
        return pattern

    def _string(self, text: str, *, in_pattern: bool) -> Texts:
        pattern = self._pattern(text)

        def filled(question: Question) -> list[str]:
            variables = question.variables
            return [
                _VARIABLE.sub(
                    lambda found: re.escape(variables[found[1]]) if in_pattern else variables[found[1]], pattern
                )
            ]

        return filled

    def _in_group(self, dn: str, attribute: str) -> Check:
        pattern = self._pattern(dn)
        return lambda question: question.directory.exists(
            fill_name(pattern, question.variables), attribute, question.variables[USER_DN]
        )

    def _in_group_nested(self, dn: str, attribute: str, *, is_subtree: bool) -> Check:
        pattern = self._pattern(dn)

        def is_in(question: Question) -> bool:
            wanted = _normal(fill_name(pattern, question.variables))
            waiting = [question.variables[USER_DN]]
            seen: set[str] = set()
            while waiting:
                for group in question.directory.groups(attribute, waiting.pop(), is_subtree=is_subtree):
                    name = _normal(group)
                    if name == wanted:
                        return True
                    if name not in seen:
                        seen.add(name)
                        waiting.append(group)
                if len(seen) > GROUPS_MAX:
                    raise BackendFailed(f"{question.variables[USER_DN]} is in more than {GROUPS_MAX} groups")
            return False

        return is_in

    def _for(self, cases: Sequence[Any]) -> Check:
        chosen: list[tuple[str, str, Check]] = []
        for case in cases:
            match case:
                case (Atom() as name, str(value), query) if name in self._variables:
                    chosen.append((name, value, self.check(query)))
                case _:
                    raise BadQuery(f"has a case that is no {{VARIABLE, VALUE, QUERY}}: {_shown(case)}")

        def first(question: Question) -> bool:
            for name, value, query in chosen:
                if question.variables[name] == value:
                    return query(question)
            return False

        return first

    def _match(self, subject: Any, pattern: Any) -> Check:
        subjects, patterns = self.texts(subject), self.texts(pattern, in_pattern=True)

        def matches(question: Question) -> bool:
            try:
                found = [Pattern(one) for one in patterns(question)]
            except BadPattern as error:
                raise BackendFailed(f"a pattern of match cannot be used: {error}") from error
            return any(one.matches(text) for one in found for text in subjects(question))

        return matches


def _shown(term: Any) -> str:
    """A term as it stands in a query, as far as it takes to find it."""

    def text(one: Any) -> str:
        if isinstance(one, tuple):
            return "{" + ", ".join(map(text, one)) + "}"
        if isinstance(one, list):
            return "[" + ", ".join(map(text, one)) + "]"
        return one if isinstance(one, Atom) else f'"{one}"' if isinstance(one, str) else str(one)

    return text(term)[:SHOWN_CHARACTERS]
