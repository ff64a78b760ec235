// The trace of messages, each with its hops, and traces of all that goes through a virtual host to files.
import { useState } from "preact/hooks";
import { ask, isAdministrator, path, usePolled, withQuery } from "./api.js";
import { bytes, count, plural, time } from "./format.js";
import { attempt, Check, Choice, Code, Empty, Failed, Field, formOf, FormDialog, Heading, later, Name, Panel, put, readTable, Search, Sign, Table, Tabs, Tag, useVirtualHosts, valueOf } from "./parts.jsx";
import { Payload } from "./messages.jsx";
import { setQuery, to, toQuery, useRoute } from "./route.js";

const EVENTS = { published: "ok", delivered: "ok", acknowledged: "ok", dead_lettered: "mild", requeued: "mild", rejected: "mild", abandoned: "mild", refused: "bad", died: "bad", queue_deleted: "bad" };
const ENDINGS = ["acknowledged", "delivered", "waiting"];
const SIZE = 25;
const IDS = { message_id: "message id", correlation_id: "correlation id" };
const words = (name) => name.replaceAll("_", " ");

const QueueLink = ({ vhost, name }) => <a href={to("queues", vhost, name)}><Name>{name}</Name></a>;

function Hop({ hop, vhost }) {
  return (
    <li>
      <span class="hop-at mono">{time(hop.at)}.{String(hop.at % 1000).padStart(3, "0")}</span>
      <Sign kind={EVENTS[hop.event] ?? "idle"}>{words(hop.event)}</Sign>
      <span class="hop-words">
        {hop.exchange !== null && <>exchange {hop.exchange ? <a href={to("exchanges", vhost, hop.exchange)}><Name>{hop.exchange}</Name></a> : "(default)"} key <Name empty="(empty)">{hop.routing_key}</Name> </>}
        {hop.queues && <>to {hop.queues.length ? hop.queues.map((name, n) => <>{n ? ", " : ""}<QueueLink vhost={vhost} name={name} /></>) : "no queue"} </>}
        {hop.queue && <>queue <QueueLink vhost={vhost} name={hop.queue} /> </>}
        {hop.redelivered && <Tag tone="mild">redelivered</Tag>}
        {hop.consumer && <>consumer <Name>{hop.consumer}</Name> </>}
        {hop.user && <>by <Name>{hop.user}</Name> </>}
        {hop.connection && <>over <a href={to("connections", hop.connection)}><Name>{hop.connection}</Name></a>{hop.channel ? ` (${hop.channel})` : ""} </>}
        {hop.reason && <b>{words(hop.reason)} </b>}
        {hop.policy && <>policy <Name>{hop.policy}</Name></>}
      </span>
    </li>
  );
}

function Traced({ one }) {
  const ids = Object.entries(IDS).filter(([key]) => one[key]);
  return (
    <Panel title={<><Name empty={`message ${one.id}`}>{one.message_id}</Name> {one.outcome.split(", ").map((outcome) => <Tag tone={ENDINGS.includes(outcome) ? "accent" : "bad"}>{words(outcome)}</Tag>)}</>}
      actions={<span class="quiet">{ids.filter(([key]) => key !== "message_id").map(([key, label]) => <>{label} <button class="link" onClick={() => setQuery({ message_id: "", correlation_id: one[key] })}><Name>{one[key]}</Name></button>, </>)}{bytes(one.body_bytes)}</span>}>
      <ol class="hops">{one.hops.map((hop) => <Hop hop={hop} vhost={one.vhost} />)}</ol>
      {one.hops_left_out > 0 && <p class="quiet">{plural(one.hops_left_out, "hop")} left out.</p>}
      {one.payload !== null && <details class="traced-body"><summary>Body</summary><Payload message={{ ...one, payload_bytes: one.body_bytes, is_payload_cut: one.body_bytes > 1024 }} /></details>}
    </Panel>
  );
}

/** What is to be traced: all of what is given must be so. */
function StartForm({ initial, onStarted, onCancel }) {
  const hosts = useVirtualHosts();
  const [problem, setProblem] = useState("");
  const start = async (event) => {
    const form = formOf(event);
    setProblem("");
    try {
      const wanted = { bodies: form.bodies === "on" };
      for (const name of ["vhost", "message_id", "correlation_id"]) if (form[name]) wanted[name] = form[name];
      for (const name of ["sample", "limit"]) if (form[name]) wanted[name] = Number(form[name]);
      if (form.headers) wanted.headers = readTable(form.headers);
      await ask("PUT", "/api/x/trace", wanted);
      onStarted();
    } catch (failure) {
      setProblem(failure.message);
    }
  };
  return (
    <Panel title="Start a trace">
      <form class="form" onSubmit={start}>
        <p class="quiet">Of the messages that are published from now on, or are in a queue already: those of which all that you give is so; all of them, if you give nothing. What was kept before goes.</p>
        <Field label="Message id"><input name="message_id" defaultValue={initial.message_id} autocomplete="off" spellcheck={false} /></Field>
        <Field label="Correlation id"><input name="correlation_id" defaultValue={initial.correlation_id} autocomplete="off" spellcheck={false} /></Field>
        <Field wide label="Headers" hint="One a line: source = shop"><textarea name="headers" rows={2} spellcheck={false} /></Field>
        <Field label="Virtual host"><select name="vhost"><option value="">any</option>{hosts.map((name) => <option>{name}</option>)}</select></Field>
        <Field label="A sample: one of so many" hint="Left empty: every one."><input name="sample" type="number" min="1" /></Field>
        <Field label="Keep at most" hint="Left empty: the last 1,000 messages."><input name="limit" type="number" min="1" max="100000" /></Field>
        <div class="field"><span class="label">Bodies</span><Check name="bodies" label="keep the first 1,024 bytes" /></div>
        {problem && <Failed error={problem} />}
        <footer>{onCancel && <button type="button" onClick={onCancel}>Cancel</button>}<button class="primary">Start</button></footer>
      </form>
    </Panel>
  );
}

const wantedOf = (data) => [
  data.message_id && `message id ${data.message_id}`, data.correlation_id && `correlation id ${data.correlation_id}`,
  ...Object.entries(data.headers ?? {}).map(([name, value]) => `header ${name} = ${valueOf(value)}`),
  data.sample > 1 && `one of ${count(data.sample)}`, data.vhost && `in ${data.vhost}`,
].filter(Boolean).join(", ") || "every message";

function Messages() {
  const { query } = useRoute();
  const [by, setBy] = useState(query.correlation_id ? "correlation_id" : "message_id");
  const [shown, setShown] = useState(SIZE);
  const [isStarting, setStarting] = useState(false);
  const { data, error, again } = usePolled(withQuery("/api/x/trace", { message_id: query.message_id, correlation_id: query.correlation_id, limit: shown + 1 }), 2000);
  if (error && !data) return <Failed error={error} />;
  if (!data) return <span class="bone" />;
  const search = (kind, value) => setQuery({ message_id: "", correlation_id: "", [kind]: value });
  const asked = query.message_id || query.correlation_id;
  const hasForm = isAdministrator() && (isStarting || (!data.on && (!data.traces || (asked && !data.messages.length))));
  const isIn = (key) => data.on && data[key] === query[key];
  return (
    <>
      {(data.on || data.traces > 0) && (
        <p class="lead trace-status">
          <Sign kind={data.on ? "ok" : "idle"}>{data.on ? `Tracing since ${time(data.since)}:` : "The trace has stopped. It was of"}</Sign> <bdi>{wantedOf(data)}</bdi>
          {isAdministrator() && <span class="actions">
            {data.on && <button class="small danger" onClick={() => attempt(async () => (await ask("DELETE", "/api/x/trace"), again()), "The trace has stopped; what was seen stays.")}>Stop</button>}
            {!hasForm && <button class="small" onClick={() => setStarting(true)}>Trace something else</button>}
          </span>}
        </p>
      )}
      {hasForm && <StartForm key={asked} initial={query} onStarted={() => (setStarting(false), again())} onCancel={isStarting ? () => setStarting(false) : undefined} />}
      {(data.on || data.traces > 0) && (
        <div class="filters">
          <Choice label="Find by" value={by} options={Object.entries(IDS)} onValue={(kind) => (setBy(kind), asked && search(kind, asked))} />
          <Search value={query[by]} onValue={(value) => search(by, value)} label={`Find by ${IDS[by]}`} />
          <span class="total">{plural(data.traces, "message")} kept</span>
        </div>
      )}
      {data.messages.slice(0, shown).map((one) => <Traced key={one.id} one={one} />)}
      {data.messages.length > shown && <div class="pager"><button onClick={() => setShown(shown * 2)}>Show more</button></div>}
      {!data.messages.length && !hasForm && (asked
        ? <Empty title="No message with that id was seen."><p>{isIn("message_id") || isIn("correlation_id") ? "It will show here when it is published, delivered or settled." : "An id is found when it is the same in every character."}</p><button onClick={() => search(by, "")}>Show all</button> {isAdministrator() && !isIn("message_id") && !isIn("correlation_id") && <button onClick={() => setStarting(true)}>Trace it</button>}</Empty>
        : data.on ? <Empty title="None has come by yet."><p>Messages that are published from now on, and are like that, show here.</p></Empty>
          : <Empty title="No message is traced."><p>An administrator starts a trace: of a message id, a correlation id, a header, or a sample.</p></Empty>)}
    </>
  );
}

// --- to files

function AddFile({ onClose, onDone }) {
  const hosts = useVirtualHosts();
  return (
    <FormDialog title="Trace to a file" submit="Start" onClose={onClose} onSubmit={async (form) => {
      const most = form.most ? { max_payload_bytes: Number(form.most) } : {};
      await put(path("traces", form.vhost, form.name), { format: form.format, pattern: form.pattern, ...most });
      onDone();
    }}>
      <Field label="Name" hint="The file's, with .log behind it."><input name="name" required autofocus pattern="[A-Za-z0-9_.\-]+" autocomplete="off" spellcheck={false} /></Field>
      <Field label="Virtual host"><select name="vhost">{hosts.map((name) => <option>{name}</option>)}</select></Field>
      <Field label="Format"><select name="format"><option value="json">lines of JSON</option><option value="text">blocks of text</option></select></Field>
      <Field label="Payloads at most (bytes)" hint="Left empty: whole."><input name="most" type="number" min="0" /></Field>
      <Field wide label="Pattern" hint="# is all; publish.orders is what comes to an exchange, deliver.audit what a queue delivers"><input name="pattern" required defaultValue="#" class="mono" autocomplete="off" spellcheck={false} /></Field>
      <p class="full quiet">Each message is copied while a trace runs: publishing and delivering take several times as long.</p>
    </FormDialog>
  );
}

function Files() {
  const traces = usePolled("/api/traces", 3000);
  const files = usePolled("/api/trace-files", 3000);
  const [isAdding, setAdding] = useState(false);
  const again = () => (traces.again(), files.again());
  const add = <button class="primary" onClick={() => setAdding(true)}>Trace to a file</button>;
  return (
    <>
      {traces.error && <Failed error={traces.error} />}
      <Panel title="Traces" actions={traces.data?.length > 0 && add}>
        <Table label="traces" rows={traces.data} rowKey={(one) => `${one.vhost} ${one.name}`} empty={<Empty title="Nothing is written to files."><p>What is published in a virtual host, and delivered, can be written to a file in the data folder.</p>{add}</Empty>} columns={[
          { label: "Trace", narrow: true, show: (one) => <Name>{one.name}</Name> },
          { label: "Virtual host", show: (one) => <Name>{one.vhost}</Name> },
          { label: "Pattern", narrow: true, show: (one) => <Code>{one.pattern}</Code> },
          { label: "Format", show: (one) => one.format },
          { label: "Written", number: true, show: (one) => <>{count(one.written)}{one.left_out > 0 && <> <Tag tone="mild" title="they came faster than the disk takes them">{count(one.left_out)} left out</Tag></>}</> },
          { label: "", number: true, narrow: true, show: (one) => <button class="link" aria-label={`stop the trace ${one.name}`} onClick={() => attempt(async () => (await ask("DELETE", path("traces", one.vhost, one.name)), again()), "It has stopped; its file stays.")}>Stop</button> },
        ]} />
      </Panel>
      {files.data?.length > 0 && <Panel title="Files">
        <Table label="files" rows={files.data} rowKey={(one) => one.name} columns={[
          { label: "File", narrow: true, show: (one) => <a href={path("trace-files", one.name)} download={one.name}><Name>{one.name}</Name></a> },
          { label: "Size", number: true, narrow: true, show: (one) => bytes(one.size) },
          { label: "", number: true, narrow: true, show: (one) => <button class="link" aria-label={`delete the file ${one.name}`} onClick={() => later(`Deleting ${one.name}`, async () => (await ask("DELETE", path("trace-files", one.name)), again()), "The file is gone.")}>Delete</button> },
        ]} />
      </Panel>}
      {isAdding && <AddFile onClose={() => setAdding(false)} onDone={again} />}
    </>
  );
}

export function Trace() {
  const { query } = useRoute();
  const tab = query.tab === "files" && isAdministrator() ? "files" : "";
  return (
    <>
      <Heading title="Trace" sub="Every hop of a message: where it came from, who had it, how it ended." />
      {isAdministrator() && <Tabs label="kinds of traces" value={tab} tabs={[["", "Messages", to("trace")], ["files", "To files", toQuery(to("trace"), { tab: "files" })]]} />}
      {tab ? <Files /> : <Messages />}
    </>
  );
}
