"""Changes by an administrator to policies and parameters: checked, kept in the journal, in force at once, logged.

Part of ``administration.py``, with its rules.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final, Protocol

from amqp_broker.broker.limit_values import LIMITS_COMPONENT, USER_LIMITS, VIRTUAL_HOST_LIMITS, checked_limits
from amqp_broker.broker.observer import Kind
from amqp_broker.broker.parameters import Parameter
from amqp_broker.broker.persistence.definitions import keep_parameter
from amqp_broker.broker.policies import OPERATOR_POLICY, POLICY, Definition, Policy
from amqp_broker.broker.policy_checks import checked_policy
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.logs import log_event

if TYPE_CHECKING:
    from amqp_broker.broker.contents import Contents
    from amqp_broker.broker.virtual_host import VirtualHost
    from amqp_broker.broker.works import Work

NAME_BYTES_MAX: Final = 255
EVENTS: Final = {POLICY: "policy", OPERATOR_POLICY: "operator policy"}


class Limits(Protocol):
    """The operations that set limits; ``administration.py`` has them."""

    def set_virtual_host_limits(self, name: str, **limits: int | None) -> None:
        """Limit what there may be in a virtual host."""

    def set_user_limits(self, name: str, **limits: int | None) -> None:
        """Limit what a user may have at the same time."""


class ParameterAdministration:
    """The changes that an administrator makes to the policies and parameters of one broker.

    Args:
        broker: which.
        who: makes them, as it stands in the log.
        limits: sets those that are parameters in RabbitMQ's API.
    """

    def __init__(self, broker: Contents, who: str, limits: Limits) -> None:
        self._broker = broker
        self._who = who
        self._limits = limits

    # --- policies

    def policies(self, virtual_host: str, component: str = POLICY) -> list[Policy]:
        """The policies of a virtual host, those that count first in front.

        Args:
            component: ``policy`` or ``operator_policy``; so it is below.

        Raises:
            NotThere: there is no such virtual host.
        """
        return self._virtual_host(virtual_host).policies.all(component)

    def policy(self, virtual_host: str, name: str, component: str = POLICY) -> Policy:
        """Look a policy up.

        Raises:
            NotThere: there is no such virtual host, or no policy of that name in it.
        """
        policy = self._virtual_host(virtual_host).policies.get(component, name)
        if policy is None:
            raise NotThere(f"there is no {EVENTS[component]} '{name}' in virtual host '{virtual_host}'")
        return policy

    def set_policy(self, virtual_host: str, name: str, value: Definition, component: str = POLICY) -> Work:
        """Create a policy, or change it.

        Args:
            value: ``pattern`` and ``definition``, and perhaps ``priority`` and ``apply-to``; others are passed over.

        Returns:
            What is to be finished before it is in force for all; for what is declared from now on it is already.

        Raises:
            NotThere: there is no such virtual host.
            NotValid: something in it is not what it should be.
        """
        host = self._virtual_host(virtual_host)
        check_parameter_name(EVENTS[component], name)
        policy = checked_policy(component, name, value, self._broker.queue_types.apply_to)
        before = host.policies.get(component, name)
        self._keep(host, component, name, policy.value())
        host.policies.put(component, policy)
        self._log(f"{EVENTS[component]} set", _text(before), _text(policy), policy=name, vhost=virtual_host)
        work = host.policies.apply_changed()
        self._tell(Kind.POLICY, virtual_host, name, policy)  # after what it means to the first queues, as in RabbitMQ
        return work

    def clear_policy(self, virtual_host: str, name: str, component: str = POLICY) -> Work:
        """Delete a policy.

        Returns:
            What is to be finished before nothing is under it any more.

        Raises:
            NotThere: there is none.
        """
        host, before = self._virtual_host(virtual_host), self.policy(virtual_host, name, component)
        self._broker.durability.forget(host.parameters.pop((component, name)))
        host.policies.remove(component, name)
        self._log(f"{EVENTS[component]} cleared", _text(before), None, policy=name, vhost=virtual_host)
        work = host.policies.apply_changed()
        self._tell(Kind.POLICY, virtual_host, name, before, is_gone=True)
        return work

    # --- limits, as RabbitMQ's API has them

    def set_virtual_host_limits(self, name: str, value: object) -> None:
        """Let these limits of a virtual host hold, and no others: ``max-connections``, ``max-queues``.

        Raises:
            NotThere: there is no such virtual host.
            NotValid: something in it is no limit, or no number.
        """
        self._virtual_host(name)
        limits = checked_limits(value, VIRTUAL_HOST_LIMITS, "limits")
        self._limits.set_virtual_host_limits(name, **limits)

    def set_user_limits(self, name: str, value: object) -> None:
        """The same for a user: ``max-connections``, ``max-channels``."""
        self._broker.existing_user(name)
        limits = checked_limits(value, USER_LIMITS, "user-limits")
        self._limits.set_user_limits(name, **limits)

    # --- other parameters

    def set_parameter(self, virtual_host: str, component: str, name: str, value: object) -> None:
        """Set a parameter of a virtual host; ``vhost-limits`` are such, policies have their own way.

        Raises:
            NotThere: there is no such virtual host.
            NotValid: there is no such component, or it can make nothing of the value.
            AdministrationError: it is a policy.
        """
        host = self._virtual_host(virtual_host)
        if component in EVENTS:
            raise AdministrationError("policies may not be set using this method")
        if component == LIMITS_COMPONENT:
            self.set_virtual_host_limits(virtual_host, value)
            return
        self._broker.components.check(component, name, value)
        check_parameter_name("parameter", name)
        before = host.parameters.get((component, name))
        before_text = None if before is None else before.text_for_log()
        self._keep(host, component, name, value)
        parameter = host.parameters[component, name]
        names = {"component": component, "parameter": name, "vhost": virtual_host}
        self._log("parameter set", before_text, parameter.text_for_log(), **names)
        self._tell(Kind.PARAMETER, virtual_host, name, parameter)
        self._broker.components.changed(component)

    def clear_parameter(self, virtual_host: str, component: str, name: str) -> None:
        """Delete a parameter.

        Raises:
            NotThere: there is none.
        """
        host = self._virtual_host(virtual_host)
        if component == LIMITS_COMPONENT:
            self.set_virtual_host_limits(virtual_host, {})
            return
        parameter = None if component in EVENTS else host.parameters.pop((component, name), None)
        if parameter is None:
            raise NotThere(f"there is no parameter '{name}' of {component} in virtual host '{virtual_host}'")
        self._broker.durability.forget(parameter)
        names = {"component": component, "parameter": name, "vhost": virtual_host}
        self._log("parameter cleared", parameter.text_for_log(), None, **names)
        self._tell(Kind.PARAMETER, virtual_host, name, parameter, is_gone=True)
        self._broker.components.changed(component)

    def set_global_parameter(self, name: str, value: object) -> None:
        """Set a parameter of the whole broker to anything that JSON has."""
        check_parameter_name("parameter", name)
        parameters = self._broker.global_parameters
        before = parameters.get(("", name))
        before_text = None if before is None else before.text_for_log()
        parameter = parameters.setdefault(("", name), Parameter("", "", name, None))
        parameter.value = value
        keep_parameter(self._broker.durability, parameter)
        self._log("global parameter set", before_text, parameter.text_for_log(), parameter=name)
        self._tell(Kind.PARAMETER, "", name, parameter)

    def clear_global_parameter(self, name: str) -> None:
        """Delete a parameter of the whole broker.

        Raises:
            NotThere: there is none.
        """
        parameter = self._broker.global_parameters.pop(("", name), None)
        if parameter is None:
            raise NotThere(f"there is no global parameter '{name}'")
        self._broker.durability.forget(parameter)
        self._log("global parameter cleared", parameter.text_for_log(), None, parameter=name)
        self._tell(Kind.PARAMETER, "", name, parameter, is_gone=True)

    # --- what they share

    def _keep(self, host: VirtualHost, component: str, name: str, value: object) -> None:
        parameter = host.parameters.setdefault((component, name), Parameter(host.name, component, name, None))
        parameter.value = value
        keep_parameter(self._broker.durability, parameter)

    def _virtual_host(self, name: str) -> VirtualHost:
        return self._broker.existing_virtual_host(name)

    def _log(self, event: str, before: str | None, after: str | None, **names: str) -> None:
        if before is not None and before == after:
            return  # it was set to what it was
        log_event(logging.INFO, event, **names, before=before, after=after, who=self._who)

    def _tell(self, kind: Kind, virtual_host: str, name: str, thing: object, *, is_gone: bool = False) -> None:
        observers = self._broker.observers
        if observers.present_for_changes:
            tell = observers.deleted if is_gone else observers.declared
            tell(kind, virtual_host, name, thing, self._who)


def check_parameter_name(what: str, name: str) -> None:
    """Refuse a name that no parameter or policy can have.

    Args:
        what: a parameter, or which kind of policy.

    Raises:
        AdministrationError: why.
    """
    if not 0 < len(name.encode("utf-8", "surrogateescape")) <= NAME_BYTES_MAX:
        raise AdministrationError(f"a {what}'s name has 1 to {NAME_BYTES_MAX} bytes")


def _text(policy: Policy | None) -> str | None:
    if policy is None:
        return None
    shown = json.dumps(policy.definition, ensure_ascii=True)
    return f"pattern='{policy.pattern.source}' apply-to={policy.apply_to} priority={policy.value()['priority']} {shown}"
