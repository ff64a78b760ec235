"""One call of an endpoint: who asks for what, and how to change something on their behalf.

Holds no endpoint, and no bytes of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from amqp_broker.access.client import Client, Peer
from amqp_broker.access.users import User
from amqp_broker.broker.administration import Administration
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.inspection import Inspection
from amqp_broker.broker.problems import AdministrationError, NotThere, Protected
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.errors import AmqpError, ReplyCode
from amqp_broker.management.http.messages import (
    HttpError,
    Request,
    bad_request,
    no_such_object,
    not_authorised,
    read_object,
)
from amqp_broker.server.changes import until_durable, when_told
from amqp_broker.wire.errors import WireError

if TYPE_CHECKING:
    from amqp_broker.management.managed_server import ManagedServer

Result = TypeVar("Result")

REFUSED = (ReplyCode.ACCESS_REFUSED, ReplyCode.NOT_ALLOWED)


class Call:
    """One call.

    Args:
        management: of the server that is asked.
        request: what was asked.
        variables: the names that the path holds.
        user: who asks.
        body: what came with it.
        peer: where it comes from.
    """

    def __init__(
        self,
        management: ManagedServer,
        request: Request,
        variables: dict[str, str],
        user: User,
        body: bytes,
        peer: Peer,
    ) -> None:
        self.management = management
        self.request = request
        self.variables = variables
        self.user = user
        self.raw_body = body
        self.peer = peer

    @property
    def broker(self) -> Broker:
        """The broker."""
        return self.management.broker

    @property
    def inspection(self) -> Inspection:
        """What can be seen of it."""
        return self.management.inspection

    @property
    def administration(self) -> Administration:
        """What can be changed of it, in the user's name."""
        return self.broker.administration.on_behalf_of(self.user.name)

    def body(self) -> dict[str, Any]:
        """The JSON object that came.

        Raises:
            HttpError: 400, it was none.
        """
        return read_object(self.raw_body)

    def virtual_host(self) -> VirtualHost:
        """The virtual host that the path names.

        Raises:
            HttpError: 404.
        """
        virtual_host = self.broker.virtual_hosts.get(self.variables["vhost"])
        if virtual_host is None:
            if self.request.method in ("PUT", "POST"):
                raise HttpError(404, "not_found", "vhost_not_found")
            raise no_such_object()
        return virtual_host

    def client(self, virtual_host: VirtualHost) -> Client:
        """The user as somebody who acts in a virtual host, as a client of AMQP does."""
        return Client(self.user, virtual_host.name)

    async def change(self, what: Callable[[], Result]) -> Result:
        """Change something, and return when that is durable.

        Raises:
            HttpError: it was refused.
        """
        try:
            result = await when_told(self.broker, what)
        except NotThere as error:
            raise no_such_object() from error
        except Protected as error:
            raise HttpError(412, "precondition_failed", str(error)) from error
        except AdministrationError as error:
            raise bad_request(str(error)) from error
        except AmqpError as error:
            raise as_http_error(error) from error
        except WireError as error:
            raise bad_request(str(error)) from error
        await until_durable(self.broker)
        return result


def as_http_error(error: AmqpError) -> HttpError:
    """What AMQP refuses with a code, as RabbitMQ's HTTP API says it."""
    if error.code in REFUSED:
        return not_authorised("Access refused.")
    if error.code == ReplyCode.NOT_FOUND:
        return HttpError(404, "not_found", error.explanation)
    return bad_request(error.explanation)
