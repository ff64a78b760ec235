// Where messages went, what the broker says, what it runs on, and a form to publish by hand.
import { useState } from "preact/hooks";
import { ask, isAdministrator, useLive, usePolled, withQuery } from "./api.js";
import { bytes, count, duration, moment, plural, time } from "./format.js";
import { attempt, Check, Choice, Empty, Failed, Field, formOf, Heading, Name, Pairs, Panel, readTable, Search, Sign, Table, Tag, useVirtualHosts, valueOf } from "./parts.jsx";
import { Payload, Publish as PublishForm, publishedBefore } from "./messages.jsx";
import { setQuery, to, toQuery, useRoute } from "./route.js";

const notYet = (status, error) => status === 404 && error.startsWith("It is not there");

// --- drops

const REASONS = {
  unroutable: "No binding led anywhere, and the publisher did not ask for it back.",
  expired: "Its time was over, and the queue has no dead-letter exchange.",
  maxlen: "The queue was full and let the oldest go.",
  rejected: "A consumer rejected it, and the queue has no dead-letter exchange.",
  delivery_limit: "It was delivered too often.",
  refused: "The queue was full, and refuses then.",
  dead_letter_unroutable: "It died, and the dead-letter exchange led nowhere.",
  cycle: "It died, and came back to where it had died.",
  purged: "Somebody emptied the queue.",
  queue_deleted: "It went with its queue.",
};

export function Drops() {
  const { query } = useRoute();
  const { data, error, status } = useLive(withQuery("/api/x/drops", { reason: query.reason }));
  const [all, setAll] = useState(null);
  if (data && !query.reason && data.by_reason !== all) setAll(data.by_reason);
  if (error && notYet(status, error)) return <><Heading title="Dropped messages" /><Empty title="This broker does not tell yet." /></>;
  const reasons = Object.entries((query.reason ? all : data?.by_reason) ?? data?.by_reason ?? {}).filter(([name, number]) => number || name === query.reason);
  return (
    <>
      <Heading title="Dropped messages" sub="What went nowhere since the broker began, where it came from, and why." />
      {error && <Failed error={error} />}
      {reasons.length > 0 && (
        <div class="filters">
          <div class="reasons" role="group" aria-label="reasons">
            <button aria-pressed={!query.reason} onClick={() => setQuery({ reason: "" })}>all</button>
            {reasons.map(([name, number]) => <button aria-pressed={query.reason === name} title={REASONS[name]} onClick={() => setQuery({ reason: query.reason === name ? "" : name })}>{name.replaceAll("_", " ")} <b>{count(number)}</b></button>)}
          </div>
        </div>
      )}
      {query.reason && <p class="quiet lead">{REASONS[query.reason]}</p>}
      <Table label="dropped messages" rows={data?.drops.slice(0, 500)} empty={<Empty title="Nothing was dropped."><p>Messages that no queue takes, that expire, or that a full queue lets go are counted here.</p></Empty>} columns={[
        { label: "Messages", number: true, narrow: true, show: (one) => count(one.count) },
        { label: "Why", narrow: true, show: (one) => <span title={REASONS[one.reason]}>{one.reason.replaceAll("_", " ")}</span> },
        { label: "Exchange", show: (one) => (one.exchange === null ? <span class="quiet">any</span> : one.exchange === "" ? <span class="quiet">(default)</span> : <a href={to("exchanges", one.vhost, one.exchange)}><Name>{one.exchange}</Name></a>) },
        { label: "Routing key", narrow: true, show: (one) => (one.routing_key === null ? <span class="quiet">any</span> : <Name empty="(empty)">{one.routing_key}</Name>) },
        { label: "Queue", show: (one) => one.queue && <a href={to("queues", one.vhost, one.queue)}><Name>{one.queue}</Name></a> },
        { label: "By", show: (one) => one.user && <Name>{one.user}</Name> },
        { label: "Policy", show: (one) => one.policy && <Name>{one.policy}</Name> },
        { label: "Last", show: (one) => one.last_at && <span class="quiet">{moment(one.last_at)}</span> },
        { label: "", number: true, show: (one) => one.reason === "unroutable" && one.exchange !== null && <a href={`${toQuery(to("explain"), { vhost: one.vhost, exchange: one.exchange })}&key=${encodeURIComponent(one.routing_key)}`}>Explain</a> },
      ]} />
    </>
  );
}

// --- the trace of a message

const EVENTS = { published: "ok", delivered: "ok", acknowledged: "ok", dead_lettered: "mild", requeued: "mild", rejected: "mild", abandoned: "mild", refused: "bad", died: "bad", queue_deleted: "bad" };

function Hop({ hop }) {
  return (
    <li>
      <span class="hop-at mono">{time(hop.at)}.{String(hop.at % 1000).padStart(3, "0")}</span>
      <Sign kind={EVENTS[hop.event] ?? "idle"}>{hop.event.replaceAll("_", " ")}</Sign>
      <span class="hop-words">
        {hop.exchange !== null && <>exchange <Name empty="(default)">{hop.exchange}</Name> key <Name empty="(empty)">{hop.routing_key}</Name> </>}
        {hop.queues && <>to {hop.queues.length ? hop.queues.map((name) => <Tag>{name}</Tag>) : "no queue"} </>}
        {hop.queue && <>queue <Name>{hop.queue}</Name> </>}
        {hop.consumer && <>consumer <Name>{hop.consumer}</Name> </>}
        {hop.user && <>by <Name>{hop.user}</Name> </>}
        {hop.reason && <b>{hop.reason.replaceAll("_", " ")} </b>}
        {hop.policy && <>policy <Name>{hop.policy}</Name></>}
      </span>
    </li>
  );
}

export function Trace() {
  const hosts = useVirtualHosts();
  const { query } = useRoute();
  const { data, error, status, again } = usePolled(withQuery("/api/x/trace", { message_id: query.message_id, correlation_id: query.correlation_id }), 2000);
  const [problem, setProblem] = useState("");
  if (error) return <><Heading title="Trace" />{notYet(status, error) ? <Empty title="This broker does not trace messages yet." /> : <Failed error={error} />}</>;
  const start = async (event) => {
    const form = formOf(event);
    setProblem("");
    try {
      const wanted = { bodies: form.bodies === "on" };
      for (const name of ["vhost", "message_id", "correlation_id"]) if (form[name]) wanted[name] = form[name];
      if (form.headers) wanted.headers = readTable(form.headers);
      if (form.sample) wanted.sample = Number(form.sample);
      await ask("PUT", "/api/x/trace", wanted);
      again();
    } catch (failure) {
      setProblem(failure.message);
    }
  };
  return (
    <>
      <Heading title="Trace" sub="Every hop of a message: where it came from, who had it, how it ended.">
        {data?.on && isAdministrator() && <button class="danger" onClick={() => attempt(async () => (await ask("DELETE", "/api/x/trace"), again()), "The trace has stopped.")}>Stop</button>}
      </Heading>
      {data?.on && <p class="lead"><Sign kind="ok">Tracing since {time(data.since)}</Sign> <span class="quiet">{[data.vhost && `in ${data.vhost}`, data.message_id && `message id ${data.message_id}`, data.correlation_id && `correlation id ${data.correlation_id}`, ...Object.entries(data.headers ?? {}).map(([name, value]) => `${name} = ${valueOf(value)}`), data.sample > 1 && `one of ${data.sample}`].filter(Boolean).join(", ") || "every message"}</span></p>}
      {data && !data.on && isAdministrator() && (
        <Panel title="Start a trace">
          <form class="form" onSubmit={start}>
            <Field label="Message id"><input name="message_id" autocomplete="off" spellcheck={false} /></Field>
            <Field label="Correlation id"><input name="correlation_id" autocomplete="off" spellcheck={false} /></Field>
            <Field label="Virtual host"><select name="vhost"><option value="">any</option>{hosts.map((name) => <option>{name}</option>)}</select></Field>
            <Field label="One of so many" hint="Left empty: every one."><input name="sample" type="number" min="1" /></Field>
            <Field wide label="Headers" hint="One a line: source = shop"><textarea name="headers" rows={2} spellcheck={false} /></Field>
            {problem && <Failed error={problem} />}
            <footer><Check name="bodies" label="keep the beginning of bodies" /><button class="primary">Start</button></footer>
          </form>
        </Panel>
      )}
      {data && (data.on || data.messages.length > 0) && <div class="filters"><Search value={query.message_id} onValue={(id) => setQuery({ message_id: id })} label="Message id" /><span class="total">{plural(data.traces, "message")} kept</span></div>}
      {data?.messages.slice(0, 50).map((one) => (
        <Panel key={one.id} title={<><Name empty={`message ${one.id}`}>{one.message_id}</Name> <Tag tone={["acknowledged", "delivered", "waiting"].includes(one.outcome) ? "accent" : "bad"}>{one.outcome}</Tag></>} actions={<span class="quiet">{bytes(one.body_bytes)}{one.correlation_id && <>, correlation id <Name>{one.correlation_id}</Name></>}</span>}>
          <ol class="hops">{one.hops.map((hop) => <Hop hop={hop} />)}</ol>
          {one.hops_left_out > 0 && <p class="quiet">{plural(one.hops_left_out, "hop")} left out.</p>}
          {one.payload !== null && <Payload message={{ ...one, payload_bytes: one.body_bytes }} />}
        </Panel>
      ))}
      {data?.on && !data.messages.length && <Empty title="None has come by yet."><p>Messages that are published from now on, and are like that, show here.</p></Empty>}
    </>
  );
}

// --- the log

const LEVELS = { error: "bad", critical: "bad", warning: "mild", info: "ok", debug: "idle" };

export function Log() {
  const { query } = useRoute();
  const { data, error } = useLive(withQuery("/api/x/log", { level: query.level, search: query.name }));
  return (
    <>
      <Heading title="Log" sub="The last lines, since somebody first opened this page; the broker writes all of them to its standard error." />
      <div class="filters">
        <Search value={query.name} onValue={(name) => setQuery({ name })} label="Find in the lines" />
        <Choice label="Level" value={query.level} options={[["", "all that is logged"], ["info", "info and worse"], ["warning", "warnings and worse"], ["error", "errors"]]} onValue={(level) => setQuery({ level })} />
      </div>
      {error && <Failed error={error} />}
      {data && !data.lines.length && <Empty title={query.name || query.level ? "No line is like that." : "Nothing was logged yet."} />}
      <ol class="log">
        {data?.lines.map((line) => (
          <li key={line.number}>
            <span class="mono log-time" title={moment(line.time_ms)}>{time(line.time_ms)}</span>
            <span title={line.level}><Sign kind={LEVELS[line.level] ?? "idle"} /><span class="unseen">{line.level}</span></span>
            <span class="log-words"><b>{line.event}</b> {Object.entries(line.fields).map(([name, value]) => <span class="log-field"><i>{name}</i> <bdi>{String(value)}</bdi></span>)}</span>
          </li>
        ))}
      </ol>
    </>
  );
}

// --- nodes

export function Nodes() {
  const { data, error } = useLive("/api/nodes");
  const { data: overview } = usePolled("/api/overview?columns=listeners,cluster_name", 0);
  return (
    <>
      <Heading title={data?.length > 1 ? "Nodes" : "Node"} above={overview && <Name>{overview.cluster_name}</Name>} />
      {error && <Failed error={error} />}
      {data?.map((node) => (
        <Panel title={<Name>{node.name}</Name>} actions={<>{node.mem_alarm && <Sign kind="bad">memory is short</Sign>}{node.disk_free_alarm && <Sign kind="bad">the disk is full</Sign>}<Sign kind={node.running ? "ok" : "bad"}>{node.running ? `up ${duration(node.uptime)}` : "down"}</Sign></>}>
          <Pairs pairs={[
            ["Memory", `${bytes(node.mem_used)} of ${bytes(node.mem_limit)}`], ["Disk free", `${bytes(node.disk_free)}, at least ${bytes(node.disk_free_limit)}`], ["File descriptors", `${count(node.fd_used)} of ${count(node.fd_total)}`],
            ["Connections", count(node.sockets_used)], ["Process", node.os_pid], ["Processors", node.processors], ["Data", <Name>{node.db_dir}</Name>],
          ]} />
        </Panel>
      ))}
      {data && <Panel title="Plugins"><ul class="chips">{data[0]?.enabled_plugins.map((plugin) => <li>{plugin}</li>)}</ul></Panel>}
      <Panel title="Where it listens"><Table label="listeners" rows={overview?.listeners} columns={[{ label: "Protocol", narrow: true, show: (one) => one.protocol }, { label: "Address", narrow: true, show: (one) => one.ip_address }, { label: "Port", number: true, narrow: true, show: (one) => one.port }]} /></Panel>
    </>
  );
}

// --- the publish console

export function Publish() {
  const hosts = useVirtualHosts();
  const { query } = useRoute();
  const vhost = query.vhost || hosts[0];
  const [round, setRound] = useState(0);
  const [initial, setInitial] = useState({ exchange: query.exchange, routing_key: query.key });
  const before = publishedBefore();
  return (
    <>
      <Heading title="Publish" />
      <div class="console">
        <Panel title="A message" actions={hosts.length > 1 && <Choice label="Virtual host" value={vhost} options={hosts} onValue={(name) => setQuery({ vhost: name })} />}>
          <PublishForm key={initial.at ?? "new"} vhost={vhost} initial={initial} onDone={() => setRound(round + 1)} />
        </Panel>
        <Panel title="Published before">
          {!before.length && <p class="quiet">What you publish in this tab stays here, to be published again.</p>}
          <ul class="before">
            {before.map((one) => (
              <li key={one.at}><button class="link" onClick={() => setInitial(one)}><Name empty="(default)">{one.exchange}</Name> · <Name empty="(empty)">{one.routing_key}</Name></button>
                <span class="quiet">{time(one.at)} {one.routed ? "" : "· no queue took it"}</span><span class="quiet mono before-body">{one.payload.slice(0, 80)}</span></li>
            ))}
          </ul>
        </Panel>
      </div>
    </>
  );
}
