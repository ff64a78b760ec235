// The first screen: what is wrong now, then the numbers.
import { useRef } from "preact/hooks";
import { isMonitor, useLive } from "./api.js";
import { bytes, count, duration, growth, levels, plural, rate } from "./format.js";
import { Empty, Failed, Figure, Heading, Name, Pairs, Panel, Sign } from "./parts.jsx";
import { Past } from "./past.jsx";
import { to, toQuery } from "./route.js";

const COLUMNS = "message_stats,churn_rates,queue_totals,object_totals,cluster_name,node,listeners,amqp_broker_version,rabbitmq_version";
const SHOWN = 6;

const WORDS = {
  memory_alarm: () => ["Memory is short: publishers are held back", "Consume what waits, or give the broker more memory.", to("nodes")],
  disk_alarm: (one) => one.store ? [`The quota of ${one.store} is nearly used up: publishers are held back`, "Consume what waits, or give it more; publishing goes on by itself.", to("nodes")] : ["The disk is nearly full: publishers are held back", "Free some space; publishing goes on by itself.", to("nodes")],
  blocked_connections: (one) => [`${plural(one.count, "connection")} blocked`, "They publish, and wait until the alarm is over.", to("connections")],
  unroutable: (one) => [`${rate(one.rate)}/s dropped: no queue takes them`, one.exchange === undefined || one.exchange === null ? "See which exchange and routing key." : <>Most are published to <Name empty="the default exchange">{one.exchange}</Name> with the key <Name empty="(empty)">{one.routing_key}</Name>.</>, to("drops")],
  dropped: (one) => [<>{count(one.count)} {LOST[one.reason] ?? one.reason}</>, null, toQuery(to("drops"), { reason: one.reason })],
  policies_tie: (one) => [<>Policy <Name>{one.policy}</Name> counts for nothing: <Name>{one.other}</Name> has its pattern and its priority</>, null, to("policies")],
  shovel: (one) => [<>Shovel <b><Name>{one.name}</Name></b> carries nothing</>, <Name>{one.reason}</Name>, to("shovels")],
  link: (one) => [<>The federation of <b><Name>{one.name}</Name></b> has a link that is down</>, <Name>{one.reason}</Name>, to("federation")],
  growing: (one) => [<>{count(one.count)} waiting, nobody consumes, {rate(one.rate)}/s more</>, null, to("queues", one.vhost, one.queue)],
  growing_consumed: (one) => [<>{count(one.count)} waiting, its consumers take nothing, {rate(one.rate)}/s more</>, null, to("queues", one.vhost, one.queue)],
  waiting: (one) => [<>{count(one.count)} waiting, nobody consumes</>, null, to("queues", one.vhost, one.queue)],
  near_timeout: (one) => [<>a delivery unacknowledged for {duration(one.age_ms)}: after {duration(one.timeout_ms)} its channel is closed</>, <Name empty="got without a consumer">{one.consumer_tag}</Name>, to("channels", one.channel)],
  unacknowledged: (one) => [<>{count(one.count)} delivered, none acknowledged lately</>, null, to("queues", one.vhost, one.queue)],
};
const LOST = {
  expired: "lost: expired, without a dead-letter exchange", maxlen: "lost: pushed out by the length limit", rejected: "lost: rejected, without a dead-letter exchange",
  delivery_limit: "lost: delivered too often", refused: "refused: the queue is full", dead_letter_unroutable: "lost: its dead-letter exchange leads nowhere", cycle: "lost: they came back to where they had died",
};
const MORE = {
  dropped: ["losses of queues", "drops"], policies_tie: ["policies that count for nothing", "policies"], shovel: ["shovels that carry nothing", "shovels"],
  link: ["links that are down", "federation"], near_timeout: ["deliveries held for long", "channels"],
  growing: ["queues that grow and nobody consumes", "queues", { state: "stuck", sort: "in", reverse: "true" }],
  growing_consumed: ["queues whose consumers take nothing", "queues", { state: "waiting", sort: "in", reverse: "true" }],
  waiting: ["queues that nobody consumes", "queues", { state: "stuck", sort: "messages_ready", reverse: "true" }],
  unacknowledged: ["queues of which nothing was acknowledged lately", "queues", { state: "unacknowledged", sort: "messages_unacknowledged", reverse: "true" }],
};

const keyOf = (one) => [one.kind, one.vhost, one.queue, one.reason, one.name, one.policy, one.channel].join(" ");

/** The problems, the worst first; those that were there before stay in their places, though their numbers change. */
function inPlace(problems, before) {
  const place = (one) => before.get(keyOf(one)) ?? Infinity;
  const sorted = [...problems].sort((a, b) => (a.severity !== "bad") - (b.severity !== "bad") || (place(a) === place(b) ? 0 : place(a) - place(b)));
  before.clear();
  sorted.forEach((one, n) => before.set(keyOf(one), n));
  return sorted;
}

function Problems() {
  const { data, error } = useLive("/api/x/problems");
  const before = useRef(new Map());
  if (error) return <Failed error={error} />;
  if (!data) return <div class="problems calm"><span class="bone" /></div>;
  if (!data.problems.length)
    return <div class="problems calm"><Sign kind="ok">Nothing is wrong</Sign><span class="quiet">No alarm, no queue without consumers, nobody who does not acknowledge, nothing lost.</span></div>;
  const seen = {};
  const shown = inPlace(data.problems.filter((one) => (seen[one.kind] = (seen[one.kind] ?? 0) + 1) <= SHOWN), before.current);
  return (
    <div class="problems">
      <h2>Wrong now</h2>
      <ul>
        {shown.map((one) => {
          const [words, hint, where] = (WORDS[one.kind] ?? (() => [one.kind, null, "#/"]))(one);
          return (
            <li key={keyOf(one)}>
              <a href={where}>
                <Sign kind={one.severity} />
                {one.queue !== undefined && <b><Name>{one.queue}</Name></b>}
                <span class="problem-words">{words}{hint && <span class="quiet"> {hint}</span>}</span>
              </a>
            </li>
          );
        })}
        {Object.entries(MORE).filter(([kind]) => data.totals[kind] > SHOWN).map(([kind, [words, noun, query]]) => (
          <li class="more" key={kind}><a href={toQuery(to(noun), query ?? {})}>{count(data.totals[kind] - SHOWN)} more {words}</a></li>
        ))}
      </ul>
    </div>
  );
}

const PAST = ["publish", "deliver_get", "ack"].map((name) => `message_stats.${name}_details`).concat(["messages_ready", "messages_unacknowledged"].map((name) => `queue_totals.${name}_details`));

const Charts = () => (
  <Past target={`/api/overview?columns=${PAST.join(",")}`} spans={["", "hour", "day"]} panelsOf={({ message_stats: stats, queue_totals: totals }) => [
    { title: "Rates", unit: "/s", lines: [["published", growth(stats?.publish_details)], ["delivered", growth(stats?.deliver_get_details)], ["acknowledged", growth(stats?.ack_details)]] },
    { title: "In queues", unit: "", lines: [["ready", levels(totals?.messages_ready_details)], ["unacknowledged", levels(totals?.messages_unacknowledged_details)]] },
  ]} />
);

const DETAILS = [["confirm", "Confirmed"], ["deliver", "Delivered, to be acknowledged"], ["deliver_no_ack", "Delivered without"], ["get", "Got one by one"], ["redeliver", "Redelivered"], ["reject", "Rejected"], ["return_unroutable", "Returned, unroutable"], ["drop_unroutable", "Dropped, unroutable"]];

/** What else is counted, for those who look closer. */
function Details({ stats, churn }) {
  return (
    <details class="panel more-details">
      <summary>All rates</summary>
      <Pairs pairs={[
        ...DETAILS.map(([name, label]) => [label, <>{rate(stats[`${name}_details`]?.rate)}/s <span class="quiet">{count(stats[name])} in all</span></>]),
        ["Connections opened and closed", `${count(churn.connection_created)} and ${count(churn.connection_closed)}`],
      ]} />
    </details>
  );
}

function Meter({ label, used, limit, words, alarm }) {
  const part = Math.min(1, limit ? used / limit : 0);
  return (
    <div class={`meter ${alarm ? "bad" : ""}`}>
      <div class="meter-words"><span>{label}</span><span class="quiet">{words}</span></div>
      <svg viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label={`${label}: ${words}`}><rect class="rail" width="100" height="4" /><rect class="fill" width={part * 100} height="4" /></svg>
    </div>
  );
}

function Node() {
  const { data } = useLive("/api/nodes?columns=name,role,uptime,mem_used,mem_limit,mem_alarm,disk_free,disk_free_limit,disk_free_alarm,fd_used,fd_total,os_pid");
  if (!data) return null;
  return data.map((node) => (
    <Panel title={<Name>{node.name}</Name>} actions={<span class="quiet">{node.role && `${node.role}, `}up {duration(node.uptime)}, process {node.os_pid}</span>}>
      <div class="meters">
        <Meter label="Memory" used={node.mem_used} limit={node.mem_limit} alarm={node.mem_alarm} words={`${bytes(node.mem_used)} of ${bytes(node.mem_limit)}`} />
        {node.disk_free_limit > 0 && <Meter label="Disk" used={node.disk_free_limit} limit={node.disk_free} alarm={node.disk_free_alarm} words={`${bytes(node.disk_free)} free, ${bytes(node.disk_free_limit)} needed`} />}
        <Meter label="File descriptors" used={node.fd_used} limit={node.fd_total} words={`${count(node.fd_used)} of ${count(node.fd_total)}`} />
      </div>
    </Panel>
  ));
}

export function Overview() {
  const { data, error } = useLive(`/api/overview?columns=${COLUMNS}`);
  if (error) return <Failed error={error} />;
  const stats = data?.message_stats ?? {};
  const totals = data?.queue_totals ?? {};
  const objects = data?.object_totals ?? {};
  const of = (name) => rate(stats[`${name}_details`]?.rate);
  const isNew = data && !objects.queues && !objects.connections;
  return (
    <>
      <Heading title="Overview" above={data ? <Name>{data.cluster_name}</Name> : " "} />
      <Problems />
      {isNew && (
        <Panel><Empty title="Nobody is here yet.">
          <p>Connect a client to <code>{listenerOf(data)}</code>, or <a href={toQuery(to("queues"), { add: "true" })}>add a queue</a> and <a href={to("publish")}>publish something</a>.</p>
        </Empty></Panel>
      )}
      <dl class="figures">
        <Figure label="Published" value={of("publish")} unit="/s" />
        <Figure label="Delivered" value={of("deliver_get")} unit="/s" />
        <Figure label="Acknowledged" value={of("ack")} unit="/s" />
        <Figure label="Ready" value={count(totals.messages_ready)} />
        <Figure label="Unacknowledged" value={count(totals.messages_unacknowledged)} />
      </dl>
      <Charts />
      {data && <Details stats={stats} churn={data.churn_rates} />}
      <nav class="tiles" aria-label="what there is">
        {[["queues", "Queues"], ["exchanges", "Exchanges"], ["connections", "Connections"], ["channels", "Channels"], ["consumers", "Consumers"]].map(([name, label]) => (
          <a class="tile" href={to(name)}><span class="value">{count(objects[name])}</span><span>{label}</span></a>
        ))}
      </nav>
      {isMonitor() && <Node />}
      <p class="colophon">amqp-broker {data?.amqp_broker_version}, as RabbitMQ {data?.rabbitmq_version}. The HTTP API is at <a href="/api">/api</a>.</p>
    </>
  );
}

const listenerOf = (data) => {
  const one = data.listeners?.find((listener) => listener.protocol.startsWith("amqp"));
  return one ? `${one.protocol === "amqp" ? "amqp" : "amqps"}://${one.ip_address}:${one.port}` : "the broker";
};
