// Who is connected: connections, their channels, their consumers.
import { useEffect, useState } from "preact/hooks";
import { ask, path, useLive, usePolled } from "./api.js";
import { bytes, channelName, count, duration, moment, rate } from "./format.js";
import { Arguments, Empty, Failed, Field, Figure, FormDialog, Heading, Name, Paged, Pairs, Panel, say, Search, Sign, Table, Tag } from "./parts.jsx";
import { go, setQuery, to, useRoute } from "./route.js";
import { consumerColumnsOf } from "./queue.jsx";

const state = (one) => <Sign kind={one.state === "running" ? "ok" : one.state === "blocked" || one.state === "blocking" ? "bad" : "mild"}>{one.state}</Sign>;

const connectionColumns = [
  { label: "Connection", narrow: true, tone: "longer", sort: "name", show: (one) => <a href={to("connections", one.name)}><Name>{one.user_provided_name ?? one.name}</Name></a> },
  { label: "From", show: (one) => <span class="quiet">{one.peer_host === "unknown" ? "this broker itself" : `${one.peer_host}:${one.peer_port}`}</span> },
  { label: "User", sort: "user", show: (one) => <Name>{one.user}</Name> },
  { label: "State", narrow: true, sort: "state", show: state },
  { label: "Protocol", show: (one) => <><span class="whole">{one.protocol}</span>{one.ssl && <> <Tag tone="accent">TLS</Tag></>}</> },
  { label: "Channels", number: true, sort: "channels", show: (one) => count(one.channels) },
  { label: "In /s", number: true, sort: "recv_oct_details.rate", show: (one) => bytes(Math.round(one.recv_oct_details.rate)) },
  { label: "Out /s", number: true, sort: "send_oct_details.rate", show: (one) => bytes(Math.round(one.send_oct_details.rate)) },
];

export function Connections() {
  return (
    <>
      <Heading title="Connections" />
      <Paged base="/api/connections" label="connections" columns={connectionColumns} rowKey={(one) => one.name} search="Find by name or address"
        empty={<Empty title="Nobody is connected."><p>Clients connect to the addresses that <a href="#/nodes">the node</a> listens on.</p></Empty>} />
    </>
  );
}

export function Connection({ names: [name] }) {
  const { data, error } = useLive(path("connections", name));
  const { data: channels } = useLive(path("connections", name, "channels"));
  const [isClosing, setClosing] = useState(false);
  if (error) return <><Heading title={<Name>{name}</Name>} above={<a href={to("connections")}>Connections</a>} /><Empty title="It has gone."><a href={to("connections")}>All connections</a></Empty></>;
  return (
    <>
      <Heading title={<Name>{data?.user_provided_name ?? name}</Name>} above={<a href={to("connections")}>Connections</a>} sub={data && <>{state(data)} <span>{name}</span></>}>
        <button class="danger" onClick={() => setClosing(true)}>Close</button>
      </Heading>
      {data && <>
        <dl class="figures">
          <Figure label="From the client" value={bytes(Math.round(data.recv_oct_details.rate))} unit="/s" sub={`${bytes(data.recv_oct)} in all`} />
          <Figure label="To the client" value={bytes(Math.round(data.send_oct_details.rate))} unit="/s" sub={`${bytes(data.send_oct)} in all`} />
          <Figure label="Waiting to be sent" value={bytes(data.send_pend)} />
          <Figure label="Channels" value={count(data.channels)} sub={`of ${count(data.channel_max)}`} />
          <Figure label="Since" value={duration(Date.now() - data.connected_at)} sub={moment(data.connected_at)} />
        </dl>
        <Panel title="What it is">
          <Pairs pairs={[["User", <Name>{data.user}</Name>], ["Virtual host", <Name>{data.vhost}</Name>], ["Protocol", data.protocol], ["Container", data.container_id && <Name>{data.container_id}</Name>], ["Logged in with", data.auth_mechanism], ["Encryption", data.ssl ? `${data.ssl_protocol}, ${data.ssl_cipher}` : "none"], ["Heartbeat", data.timeout ? `${data.timeout} s` : "none"], ["Frame size", bytes(data.frame_max)]]} />
        </Panel>
        <Panel title="What the client says of itself"><Arguments table={Object.fromEntries(Object.entries(data.client_properties).filter(([key]) => key !== "capabilities"))} empty="nothing" /></Panel>
        <Panel title="Channels"><Table label="channels" columns={channelColumns.filter((one) => one.label !== "User")} rows={channels} empty={<Empty title="It has opened no channel." />} /></Panel>
      </>}
      {isClosing && (
        <FormDialog title="Close the connection" submit="Close it" danger onClose={() => setClosing(false)} onSubmit={async (form) => {
          await ask("DELETE", path("connections", name), undefined, { "x-reason": form.reason.replace(/[^\x20-\x7e]/g, "?") });
          say("Closed.");
          setTimeout(() => go(to("connections")));
        }}>
          <p>The client is told the reason; many clients connect again at once.</p>
          <Field wide label="Reason"><input name="reason" defaultValue="closed by an administrator" required /></Field>
        </FormDialog>
      )}
    </>
  );
}

const channelColumns = [
  { label: "Channel", narrow: true, tone: "middling", sort: "name", show: (one) => <a href={to("channels", one.name)} title={one.name}><Name>{channelName(one.name)}</Name></a> },
  { label: "User", sort: "user", show: (one) => <Name>{one.user}</Name> },
  { label: "Mode", show: (one) => <>{one.confirm && <Tag title="publisher confirms">confirms</Tag>} {one.transactional && <Tag>transactions</Tag>}</> },
  { label: "Prefetch", number: true, show: (one) => (one.prefetch_count || one.global_prefetch_count ? count(one.prefetch_count || one.global_prefetch_count) : "–") },
  { label: "Consumers", number: true, sort: "consumer_count", show: (one) => count(one.consumer_count) },
  { label: "Unacked", number: true, narrow: true, sort: "messages_unacknowledged", show: (one) => count(one.messages_unacknowledged) },
  { label: "Unconfirmed", number: true, sort: "messages_unconfirmed", show: (one) => count(one.messages_unconfirmed) },
  { label: "Publish /s", number: true, sort: "message_stats.publish_details.rate", show: (one) => rate(one.message_stats?.publish_details?.rate) },
  { label: "Deliver /s", number: true, sort: "message_stats.deliver_get_details.rate", show: (one) => rate(one.message_stats?.deliver_get_details?.rate) },
];

export function Channels() {
  return (
    <>
      <Heading title="Channels" />
      <Paged base="/api/channels" label="channels" columns={channelColumns} rowKey={(one) => one.name} empty={<Empty title="There is no channel."><p>A client opens one on its connection before it publishes or consumes.</p></Empty>} />
    </>
  );
}

export function Channel({ names: [name] }) {
  const { data, error } = useLive(path("channels", name));
  if (error) return <><Heading title={<Name>{name}</Name>} above={<a href={to("channels")}>Channels</a>} /><Empty title="It has gone."><a href={to("channels")}>All channels</a></Empty></>;
  const stats = data?.message_stats ?? {};
  return (
    <>
      <Heading title={<Name>{name}</Name>} above={<a href={to("channels")}>Channels</a>}>
        {data && <a class="button" href={to("connections", data.connection_details.name)}>Its connection</a>}
      </Heading>
      {data && <>
        <dl class="figures">
          <Figure label="Published" value={rate(stats.publish_details?.rate)} unit="/s" sub={`${count(stats.publish)} in all`} />
          <Figure label="Delivered" value={rate(stats.deliver_get_details?.rate)} unit="/s" sub={`${count(stats.deliver_get)} in all`} />
          <Figure label="Acknowledged" value={rate(stats.ack_details?.rate)} unit="/s" sub={`${count(stats.ack)} in all`} />
          <Figure label="Unacknowledged" value={count(data.messages_unacknowledged)} />
          <Figure label="Unconfirmed" value={count(data.messages_unconfirmed)} />
        </dl>
        <Panel title="What it is"><Pairs pairs={[["User", <Name>{data.user}</Name>], ["Virtual host", <Name>{data.vhost}</Name>], ["Confirms", data.confirm ? "yes" : "no"], ["Transactions", data.transactional ? "yes" : "no"], ["Prefetch", data.prefetch_count || "no limit"], ["Of the whole channel", data.global_prefetch_count || "no limit"], ["Uncommitted", count(data.messages_uncommitted)]]} /></Panel>
        <Panel title="Consumers"><Table label="consumers" columns={[{ label: "Queue", narrow: true, show: (one) => <a href={to("queues", one.queue.vhost, one.queue.name)}><Name>{one.queue.name}</Name></a> }, ...consumerColumnsOf(data.consumer_details).filter((one) => one.label !== "Channel")]} rows={data.consumer_details} empty={<Empty title="Nobody consumes on it." />} /></Panel>
      </>}
    </>
  );
}

const CONSUMERS = "/api/consumers?columns=queue,consumer_tag,channel_details.name,active,activity_status,ack_required,prefetch_count,arguments";
const CONSUMERS_SHOWN = 500;

export function Consumers() {
  const { query } = useRoute();
  const [every_ms, setEvery] = useState(3000);
  const { data, error } = usePolled(CONSUMERS, every_ms);
  const isLong = data?.length > 2 * CONSUMERS_SHOWN;
  useEffect(() => setEvery(isLong ? 15_000 : 3000), [isLong]);
  const wanted = (query.name ?? "").toLowerCase();
  const rows = data?.filter((one) => one.queue.name.toLowerCase().includes(wanted) || one.consumer_tag.toLowerCase().includes(wanted));
  return (
    <>
      <Heading title="Consumers" />
      {error && <Failed error={error} />}
      <div class="filters"><Search value={query.name} onValue={(name) => setQuery({ name })} label="Find by queue or tag" /><span class="total">{rows ? count(rows.length) : ""}</span></div>
      <Table label="consumers" rows={rows?.slice(0, CONSUMERS_SHOWN)} columns={[{ label: "Queue", narrow: true, tone: "long", show: (one) => <a href={to("queues", one.queue.vhost, one.queue.name)}><Name>{one.queue.name}</Name></a> }, ...consumerColumnsOf(rows)]}
        empty={<Empty title={wanted ? "No consumer is like that." : "Nobody consumes."}><p>A client that subscribes to a queue shows here.</p></Empty>} />
      {rows?.length > CONSUMERS_SHOWN && <p class="quiet">{count(rows.length - CONSUMERS_SHOWN)} more are left out: search for a queue or a tag.</p>}
    </>
  );
}
