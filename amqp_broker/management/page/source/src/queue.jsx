// One queue: how it is, what is in it, who reads it, what leads to it, and what can be done with it.
import { useState } from "preact/hooks";
import { ask, path, useLive, usePolled } from "./api.js";
import { bytes, channelName, count, growth, levels, plural, rate } from "./format.js";
import { Arguments, attempt, Choice, Dialog, Empty, Failed, Field, Figure, FormDialog, Heading, later, Name, NameInput, Pairs, Panel, readTable, say, Select, Sign, Table, Tabs, Tag } from "./parts.jsx";
import { Past } from "./past.jsx";
import { Message, MessagesOf, Publish, Replay } from "./messages.jsx";
import { go, setQuery, to, toQuery, useRoute } from "./route.js";
import { Features, stateOf } from "./queues.jsx";
import { Entries } from "./stream.jsx";

const TABS = [["", "Overview"], ["messages", "Messages"], ["consumers", "Consumers"], ["bindings", "Bindings"], ["publish", "Publish"]];

const consumerColumns = [
  { label: "Tag", narrow: true, tone: "long", show: (one) => <Name>{one.consumer_tag}</Name> },
  { label: "Channel", tone: "long", show: (one) => <a href={to("channels", one.channel_details.name)} title={one.channel_details.name}><Name>{channelName(one.channel_details.name)}</Name></a> },
  { label: "State", narrow: true, show: (one) => <Sign kind={one.active ? "ok" : "idle"}>{one.activity_status.replace("_", " ")}</Sign> },
  { label: "Acknowledges", show: (one) => (one.ack_required ? "yes" : "no") },
  { label: "Prefetch", number: true, show: (one) => (one.prefetch_count ? count(one.prefetch_count) : "no limit") },
  { label: "Arguments", show: (one) => <Arguments table={one.arguments} empty="" /> },
];

/** Entries of a stream that a consumer was not sent yet; other queues' consumers have none. */
const behind = { label: "Behind", number: true, narrow: true, show: (one) => (one.offset_lag === undefined ? "" : count(one.offset_lag)) };
const isOfStream = (one) => one.offset_lag !== undefined;
export const consumerColumnsOf = (rows) => (rows?.some(isOfStream) ? [...consumerColumns.slice(0, 3), behind, ...consumerColumns.slice(3)] : consumerColumns);

const PAST = "message_stats.publish_details,message_stats.deliver_get_details,message_stats.ack_details,messages_ready_details,messages_unacknowledged_details";

function Overview({ data, vhost, name }) {
  const stats = data.message_stats;
  const isStream = data.type === "stream";
  const lags = (data.consumer_details ?? []).filter(isOfStream).map((one) => one.offset_lag);
  return (
    <>
      <dl class="figures">
        {isStream
          ? <><Figure label="Entries" value={count(data.messages_ready)} /><Figure label="Next offset" value={count(data.end_offset)} /></>
          : <><Figure label="Ready" value={count(data.messages_ready)} /><Figure label="Unacknowledged" value={count(data.messages_unacknowledged)} /></>}
        <Figure label="In" value={rate(stats.publish_details.rate)} unit="/s" />
        <Figure label="Out" value={rate(stats.deliver_get_details.rate)} unit="/s" />
        <Figure label="Consumers" value={count(data.consumers)} sub={lags.length > 0 && `${count(Math.max(...lags))} behind at most`} />
      </dl>
      <Past target={`${path("queues", vhost, name)}?columns=${PAST}`} spans={["", "hour"]} panelsOf={({ message_stats: past, messages_ready_details: ready, messages_unacknowledged_details: unacknowledged }) => [
        { title: "Rates", unit: "/s", lines: [["in", growth(past?.publish_details)], ["out", growth(past?.deliver_get_details)], ["acknowledged", growth(past?.ack_details)]] },
        { title: isStream ? "Entries" : "Messages", unit: "", lines: [[isStream ? "entries" : "ready", levels(ready)], ["unacknowledged", levels(unacknowledged)]] },
      ]} />
      <Panel title="What it is">
        <Pairs pairs={[
          ["Type", data.type], ["Durable", data.durable ? "yes" : "no, it goes with the broker"], ["Auto-delete", data.auto_delete ? "yes" : "no"], ["Exclusive", data.exclusive ? "yes" : "no"],
          [isStream ? "Bytes" : "Bytes ready", bytes(data.message_bytes_ready)], ["Oldest offset", isStream ? count(data.first_offset) : null], ["Active consumer", data.single_active_consumer_tag && <Name>{data.single_active_consumer_tag}</Name>],
          ["Policy", data.policy ? <Name>{data.policy}</Name> : <span class="quiet">none</span>], ["Operator policy", data.operator_policy && <Name>{data.operator_policy}</Name>],
        ]} />
        <div class="form">
          <div class="field"><span class="label">Arguments, as declared</span><Arguments table={data.arguments} /></div>
          <div class="field"><span class="label">In force by policies</span><Arguments table={data.effective_policy_definition} /></div>
        </div>
      </Panel>
      <Panel title="Since it is in memory">
        <Pairs pairs={[["Came in", count(stats.publish)], ["Delivered", count(stats.deliver + stats.deliver_no_ack)], ["Got", count(stats.get + stats.get_no_ack)], ["Acknowledged", count(stats.ack)], ["Redelivered", count(stats.redeliver)], ["Rejected", count(stats.reject)], ["Requeued", count(stats.requeue)], ["Found it empty", count(stats.get_empty)]]} />
      </Panel>
    </>
  );
}

export function BindingsOf({ rows, vhost, lead, empty, onChange }) {
  return (
    <Table label={lead === "to" ? "bindings that lead here" : "bindings"} rows={rows} empty={empty} columns={[
      lead === "to"
        ? { label: "From", narrow: true, show: (one) => (one.source ? <a href={to("exchanges", vhost, one.source)}><Name>{one.source}</Name></a> : <span class="quiet">(default exchange)</span>) }
        : { label: "To", narrow: true, show: (one) => <><Tag>{one.destination_type}</Tag> <a href={to(one.destination_type === "queue" ? "queues" : "exchanges", vhost, one.destination)}><Name>{one.destination}</Name></a></> },
      { label: "Routing key", narrow: true, show: (one) => <Name empty="(empty)">{one.routing_key}</Name> },
      { label: "Arguments", show: (one) => <Arguments table={one.arguments} empty="" /> },
      { label: "", narrow: true, number: true, show: (one) => one.source && <button class="link" aria-label={`remove the binding with key ${one.routing_key}`} onClick={() => later(`Removing the binding of ${one.destination}`, async () => {
        await ask("DELETE", path("bindings", vhost, "e", one.source, one.destination_type[0], one.destination, one.properties_key));
        onChange?.();
      }, "The binding is removed.")}>Remove</button> },
    ]} />
  );
}

export function Bind({ vhost, source, destination, kind = "q", onClose, onDone }) {
  const [target, setTarget] = useState("q");
  return (
    <FormDialog title="Add a binding" submit="Bind" onClose={onClose} onSubmit={async (form) => {
      await ask("POST", path("bindings", vhost, "e", source ?? form.source, form.kind ?? kind, destination ?? form.destination), { routing_key: form.routing_key, arguments: readTable(form.arguments) });
      onDone();
      say("Bound.");
    }}>
      {source === undefined && <Field label="From exchange"><NameInput noun="exchanges" vhost={vhost} name="source" required autofocus /></Field>}
      {destination === undefined && <><Field label="To"><Select name="kind" options={[["q", "a queue"], ["e", "an exchange"]]} onChange={(event) => setTarget(event.target.value)} /></Field><Field label="Its name"><NameInput noun={target === "q" ? "queues" : "exchanges"} vhost={vhost} name="destination" required /></Field></>}
      <Field label="Routing key"><input name="routing_key" autocomplete="off" spellcheck={false} /></Field>
      <Field wide label="Arguments" hint="Headers exchanges look at these: x-match = all, and a line for each header."><textarea name="arguments" rows={2} spellcheck={false} /></Field>
    </FormDialog>
  );
}

function Bindings({ vhost, name }) {
  const { data, error, again } = usePolled(path("queues", vhost, name, "bindings"));
  const [isAdding, setAdding] = useState(false);
  return (
    <Panel title="What leads here" actions={<button onClick={() => setAdding(true)}>Add a binding</button>}>
      {error ? <Failed error={error} /> : <BindingsOf rows={data} vhost={vhost} lead="to" onChange={again} />}
      {isAdding && <Bind vhost={vhost} destination={name} onClose={() => setAdding(false)} onDone={again} />}
    </Panel>
  );
}

function Get({ vhost, name, onClose }) {
  const [found, setFound] = useState(null);
  if (found)
    return (
      <Dialog title={found.length ? plural(found.length, "message") : "The queue is empty"} onClose={onClose} wide>
        <div class="stack">{found.map((message) => <section class="panel"><Message message={message} queue={name} /></section>)}{!found.length && <p class="quiet">There was nothing to get.</p>}</div>
      </Dialog>
    );
  return (
    <Getting vhost={vhost} name={name} onFound={setFound} onClose={onClose} />
  );
}

function Getting({ vhost, name, onFound, onClose }) {
  const [error, setError] = useState("");
  const submitted = async (event) => {
    event.preventDefault();
    const form = Object.fromEntries(new FormData(event.currentTarget));
    try {
      onFound(await ask("POST", path("queues", vhost, name, "get"), { count: Number(form.count), ackmode: form.ackmode, encoding: "auto", truncate: 65_536 }));
    } catch (problem) {
      setError(problem.message);
    }
  };
  return (
    <Dialog title="Get messages" onClose={onClose}>
      <form class="form" onSubmit={submitted}>
        <p>This takes messages out of the queue. To look without touching them, open <a href={toQuery(to("queues", vhost, name), { tab: "messages" })} onClick={onClose}>Messages</a>.</p>
        <Field label="How many"><input name="count" type="number" min="1" max="100" defaultValue="1" /></Field>
        <Field label="Then" wide><select name="ackmode"><option value="ack_requeue_true">put them back, marked as redelivered</option><option value="ack_requeue_false">acknowledge: they are gone</option><option value="reject_requeue_false">reject: dead-letter or drop</option></select></Field>
        {error && <Failed error={error} />}
        <footer><button type="button" onClick={onClose}>Cancel</button><button class="primary">Get</button></footer>
      </form>
    </Dialog>
  );
}

export function Queue({ names: [vhost, name] }) {
  const { query } = useRoute();
  const tab = query.tab ?? "";
  const { data, error } = useLive(path("queues", vhost, name));
  const [front, setFront] = useState("");
  if (error) return <><Heading title={<Name>{name}</Name>} above={<a href={to("queues")}>Queues</a>} /><Empty title={error}><a href={to("queues")}>All queues</a></Empty></>;
  const [kind, words] = data ? stateOf(data) : ["idle", ""];
  const remove = () => later(`Deleting queue ${name}`, async () => {
    await ask("DELETE", path("queues", vhost, name));
    if (location.hash.startsWith(to("queues", vhost, name))) go(to("queues"));
  }, `Queue ${name} is deleted.`);
  const isStream = data?.type === "stream";
  const hasPast = data && ("x-replay-ms" in data.arguments || "replay-ms" in data.effective_policy_definition);
  const purge = () => later(`Purging ${plural(data.messages_ready, "message")} of ${name}`, () => ask("DELETE", path("queues", vhost, name, "contents")), "Purged.");
  return (
    <>
      <Heading title={<Name>{name}</Name>} above={<><a href={to("queues")}>Queues</a> in <Name>{vhost}</Name></>} sub={data && <><Sign kind={kind}>{words}</Sign> <Features queue={data} /></>}>
        {hasPast && <button onClick={() => setFront("replay")}>Replay</button>}
        {data && !isStream && <><button onClick={() => setFront("get")}>Get</button>
        <button onClick={purge} class="danger" disabled={!data.messages_ready}>Purge</button></>}
        <button onClick={remove} class="danger">Delete</button>
      </Heading>
      <Tabs label="parts of the queue" value={tab} tabs={TABS.map(([key, label]) => [key, isStream && key === "messages" ? "Entries" : label, toQuery(to("queues", vhost, name), { tab: key })])} />
      {!data ? <span class="bone" /> : tab === "messages" && isStream ? <Entries vhost={vhost} name={name} first={data.first_offset} end={data.end_offset} /> : tab === "messages" ? <MessagesOf vhost={vhost} name={name} may />
        : tab === "consumers" ? <Panel title={plural(data.consumers, "consumer")}><Table label="consumers" columns={consumerColumnsOf(data.consumer_details)} rows={data.consumer_details} empty={<Empty title="Nobody consumes here."><p>Messages wait until a client consumes from this queue.</p></Empty>} /></Panel>
        : tab === "bindings" ? <Bindings vhost={vhost} name={name} />
        : tab === "publish" ? <Panel title="Publish to this queue"><Publish vhost={vhost} exchange="" routingKey={name} /></Panel>
        : <Overview data={data} vhost={vhost} name={name} />}
      {front === "replay" && <Replay vhost={vhost} name={name} onClose={() => setFront("")} />}
      {front === "get" && <Get vhost={vhost} name={name} onClose={() => setFront("")} />}
    </>
  );
}
