"""Health: checks that a load balancer or an orchestrator asks for; 503 says that something is not."""

from __future__ import annotations

from amqp_broker.management.api.overview import listeners
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json, bad_request, not_authorised
from amqp_broker.management.http.router import Access, Endpoint, Handler

OK = {"status": "ok"}
PORT_DIGITS_MAX = 9
UNITS = ("days", "weeks", "months", "years")
PROTOCOLS = {"amqp091": "amqp", "amqp0.9.1": "amqp", "amqp10": "amqp", "amqps": "amqp/ssl"}


def _failed(reason: str, **more: object) -> Answer:
    return answer_json({"status": "failed", "reason": reason, **more}, 503)


async def check_alarms(call: Call) -> Answer:
    """Whether an alarm is raised."""
    alarms = [{"node": call.management.node, "resource": name} for name in call.broker.alarms.raised]
    return _failed("There are alarms", alarms=alarms) if alarms else answer_json(OK)


async def check_nothing(call: Call) -> Answer:
    """What cannot fail on one node that answers."""
    return answer_json(OK)


async def check_critical_mirrors(call: Call) -> Answer:
    """Whether a mirror would be missed; there are none."""
    return answer_json({"status": "ok", "reason": "single node cluster"})


async def check_certificate(call: Call) -> Answer:
    """Whether a certificate expires within a time."""
    if call.variables["unit"] not in UNITS:
        raise bad_request("Invalid units")
    if not call.variables["number"].isdecimal():
        raise bad_request("Invalid expiration value.")
    return answer_json(OK)


async def check_port(call: Call) -> Answer:
    """Whether something listens on a port."""
    wanted, ports = call.variables["port"], [listener["port"] for listener in listeners(call)]
    if not wanted.isdecimal() or len(wanted) > PORT_DIGITS_MAX:
        raise bad_request("Invalid port")
    if int(wanted) in ports:
        return answer_json({"status": "ok", "port": int(wanted)})
    return _failed("No active listener", missing=int(wanted), ports=ports)


async def check_protocol(call: Call) -> Answer:
    """Whether something listens for a protocol, or for all of several."""
    spoken = sorted({str(listener["protocol"]) for listener in listeners(call)})
    for wanted in call.variables["protocol"].split(","):
        if PROTOCOLS.get(wanted, wanted) not in spoken:
            return _failed("No active listener", missing=wanted, protocols=spoken)
    return answer_json({"status": "ok", "protocol": call.variables["protocol"]})


async def check_alive(call: Call) -> Answer:
    """Whether the user could use the virtual host."""
    name = call.virtual_host().name
    if name not in call.user.permissions:
        raise not_authorised("Access refused.")
    return answer_json(OK)


def _check(name: str, handler: Handler = check_nothing) -> Endpoint:
    return Endpoint(f"/api/health/checks/{name}", {"GET": (Access.MANAGEMENT, handler)})


ENDPOINTS = (
    _check("alarms", check_alarms),
    _check("local-alarms", check_alarms),
    _check("certificate-expiration/{number}/{unit}", check_certificate),
    _check("port-listener/{port}", check_port),
    _check("protocol-listener/{protocol}", check_protocol),
    _check("virtual-hosts"),
    _check("node-is-mirror-sync-critical", check_critical_mirrors),
    _check("node-is-quorum-critical", check_critical_mirrors),
    _check("is-in-service"),
    _check("ready-to-serve-clients"),
    _check("below-node-connection-limit"),
    _check("reached-target-cluster-size"),
    _check("metadata-store/initialized"),
    _check("metadata-store/initialized/with-data"),
    _check("quorum-queues-without-elected-leaders/all-vhosts"),
    _check("quorum-queues-without-elected-leaders/vhost/{vhost}"),
    _check("quorum-queues-without-elected-leaders/all-vhosts/pattern/{pattern}"),
    _check("quorum-queues-without-elected-leaders/vhost/{vhost}/pattern/{pattern}"),
    Endpoint("/api/aliveness-test/{vhost}", {"GET": (Access.VIRTUAL_HOST, check_alive)}),
    Endpoint("/api/healthchecks/node", {"GET": (Access.MANAGEMENT, check_alarms)}),
    Endpoint("/api/healthchecks/node/{node}", {"GET": (Access.MANAGEMENT, check_alarms)}),
)
