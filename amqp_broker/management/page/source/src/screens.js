// Which screens there are, where they are, and who sees them. A screen is a list, and what is below it one of its things.
import { Definitions, Policies, User, Users, VirtualHost, VirtualHosts } from "./admin.jsx";
import { Federation, Shovels } from "./carrying.jsx";
import { Channel, Channels, Connection, Connections, Consumers } from "./clients.jsx";
import { Delayed, DelayedIn } from "./delayed.jsx";
import { Drops, Log, Nodes, Publish } from "./diagnosis.jsx";
import { Bindings, Exchange, Exchanges, Explain } from "./exchanges.jsx";
import { Overview } from "./overview.jsx";
import { Queue } from "./queue.jsx";
import { Queues } from "./queues.jsx";
import { Topology } from "./topology.jsx";
import { Trace } from "./trace.jsx";

export const SCREENS = {
  "": [Overview],
  queues: [Queues, Queues, Queue],
  exchanges: [Exchanges, Exchanges, Exchange],
  bindings: [Bindings],
  delayed: [Delayed, Delayed, DelayedIn],
  topology: [Topology],
  explain: [Explain],
  publish: [Publish],
  drops: [Drops],
  trace: [Trace],
  connections: [Connections, Connection],
  channels: [Channels, Channel],
  consumers: [Consumers],
  users: [Users, User],
  vhosts: [VirtualHosts, VirtualHost],
  policies: [Policies],
  shovels: [Shovels],
  federation: [Federation],
  definitions: [Definitions],
  nodes: [Nodes],
  log: [Log],
};

const entry = (label, noun, key, needs) => ({ label, where: noun ? [noun] : [], key, needs });

export const NAVIGATION = [
  { label: "", entries: [entry("Overview", "", "o")] },
  { label: "Messages", entries: [entry("Queues", "queues", "q"), entry("Exchanges", "exchanges", "e"), entry("Bindings", "bindings", "b"), entry("Delayed", "delayed", "a"), entry("Topology", "topology", "t"), entry("Publish", "publish", "p")] },
  { label: "Where did it go?", entries: [entry("Dropped", "drops", "d"), entry("Explain a route", "explain", "r"), entry("Trace", "trace", "m", "monitoring")] },
  { label: "Clients", entries: [entry("Connections", "connections", "c"), entry("Channels", "channels", "h"), entry("Consumers", "consumers", "s")] },
  { label: "Administration", entries: [entry("Users", "users", "u", "administrator"), entry("Virtual hosts", "vhosts", "v"), entry("Policies", "policies", "y"), entry("Shovels", "shovels", "x", "monitoring"), entry("Federation", "federation", "w", "monitoring"), entry("Definitions", "definitions", "f", "administrator"), entry("Nodes", "nodes", "n", "monitoring"), entry("Log", "log", "l", "monitoring")] },
];
