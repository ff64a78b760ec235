// What was dropped, what the broker says, what it runs on, and a form to publish by hand.
import { useState } from "preact/hooks";
import { isAdministrator, useLive, usePolled, withQuery } from "./api.js";
import { bytes, count, duration, moment, time } from "./format.js";
import { Choice, Empty, Failed, Field, FormDialog, Heading, Name, Pairs, Panel, put, Search, Sign, Table, useVirtualHosts } from "./parts.jsx";
import { Publish as PublishForm, publishedBefore } from "./messages.jsx";
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
        { label: "Count", number: true, narrow: true, show: (one) => count(one.count) },
        { label: "Why", narrow: true, show: (one) => <span title={REASONS[one.reason]}>{one.reason.replaceAll("_", " ")}</span> },
        { label: "Exchange", narrow: true, tone: "tight", show: (one) => (one.exchange === null ? <span class="quiet">any</span> : one.exchange === "" ? <span class="quiet">(default)</span> : <a href={to("exchanges", one.vhost, one.exchange)}><Name>{one.exchange}</Name></a>) },
        { label: "Routing key", narrow: true, tone: "tight", show: (one) => (one.routing_key === null ? <span class="quiet">any</span> : <Name empty="(empty)">{one.routing_key}</Name>) },
        { label: "Queue", show: (one) => one.queue && <a href={to("queues", one.vhost, one.queue)}><Name>{one.queue}</Name></a> },
        { label: "By", show: (one) => one.user && <Name>{one.user}</Name> },
        { label: "Policy", show: (one) => one.policy && <Name>{one.policy}</Name> },
        { label: "Last", show: (one) => one.last_at && <span class="quiet whole">{moment(one.last_at)}</span> },
        { label: "", number: true, show: (one) => one.reason === "unroutable" && one.exchange !== null && <a href={`${toQuery(to("explain"), { vhost: one.vhost, exchange: one.exchange })}&key=${encodeURIComponent(one.routing_key)}`}>Explain</a> },
      ]} />
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
      <Heading title="Log" sub="The last 1,000 lines; the broker writes all of them to its standard error." />
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
  const { data: overview, again } = usePolled("/api/overview?columns=listeners,cluster_name", 0);
  const [isNaming, setNaming] = useState(false);
  return (
    <>
      <Heading title={data?.length > 1 ? "Nodes" : "Node"} above={overview && <Name>{overview.cluster_name}</Name>}>
        {overview && isAdministrator() && <button onClick={() => setNaming(true)}>Name the cluster</button>}
      </Heading>
      {isNaming && <FormDialog title="Name the cluster" submit="Save" onClose={() => setNaming(false)} onSubmit={async (form) => (await put("/api/cluster-name", { name: form.name }), again())}>
        <Field wide label="Name" hint="Clients are told it when they connect; links of a federation know each other by it."><input name="name" required autofocus defaultValue={overview.cluster_name} autocomplete="off" spellcheck={false} /></Field>
      </FormDialog>}
      {error && <Failed error={error} />}
      {data?.map((node) => (
        <Panel title={<Name>{node.name}</Name>} actions={<>{node.mem_alarm && <Sign kind="bad">memory is short</Sign>}{node.disk_free_alarm && <Sign kind="bad">{node.disk_free_alarm_reason ?? "the disk is full"}</Sign>}<Sign kind={node.running ? "ok" : "bad"}>{node.running ? `${node.role ? `${node.role}, ` : ""}up ${duration(node.uptime)}` : "down"}</Sign></>}>
          <Pairs pairs={[
            ["Memory", `${bytes(node.mem_used)} of ${bytes(node.mem_limit)}`], ["Disk free", node.disk_free_limit > 0 ? `${bytes(node.disk_free)}, at least ${bytes(node.disk_free_limit)}` : null], ["File descriptors", `${count(node.fd_used)} of ${count(node.fd_total)}`],
            ["Connections", count(node.sockets_used)], ["Process", node.os_pid], ["Processors", node.processors], ["Data", node.db_dir ? <Name>{node.db_dir}</Name> : null],
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
              <li key={one.at}><button class="link" onClick={() => (setInitial(one), setQuery({ vhost: one.vhost }))}><Name empty="(default)">{one.exchange}</Name> · <Name empty="(empty)">{one.routing_key}</Name></button>
                <span class="quiet">{time(one.at)} {one.routed ? "" : "· no queue took it"}</span><span class="quiet mono before-body">{one.payload.slice(0, 80)}</span></li>
            ))}
          </ul>
        </Panel>
      </div>
    </>
  );
}
