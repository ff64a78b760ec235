// All queues: however many there are, only what can be seen is asked for and drawn.
import { useEffect, useRef, useState } from "preact/hooks";
import { path, useLive, withQuery } from "./api.js";
import { bytes, count, rate } from "./format.js";
import { attempt, Check, Choice, Empty, Failed, Field, FormDialog, Heading, Name, put, readTable, Search, Select, Sign, Spark, Tag, useVirtualHosts } from "./parts.jsx";
import { go, setQuery, to, useRoute } from "./route.js";

const ROW = 44;
// What is asked for, and drawn: some rows above those in sight, and below. While somebody scrolls, more: they are there before they are seen.
const RESTING = { step: 20, window: 80 };
const SCROLLING = { step: 40, window: 160 };
const SETTLED_MS = 400;
const SKELETON = 8;
const NAME = { key: "name", sort: "name", label: "Queue", class: "c-name" };

const STATES = [["", "any state"], ["stuck", "waiting, nobody consumes"], ["waiting", "with messages ready"], ["unacknowledged", "with unacknowledged"], ["nobody", "without consumers"], ["empty", "empty"]];

const numbered = (key, label, show, others = {}) => ({ key, sort: key, label, class: `c-number c-${key}`, number: true, show, ...others });
// Besides the name. Those that are shown stand in the address, and are kept in this browser.
const COLUMNS = [
  { key: "features", label: "Features", class: "c-tags", show: (queue) => <Features queue={queue} />, isUsual: true },
  { key: "minute", label: "Minute", class: "c-spark", show: (queue) => <Spark values={queue.trend} label="messages in the last minute" />, isUsual: true },
  numbered("messages_ready", "Ready", (queue) => count(queue.messages_ready), { isUsual: true, isOnPhone: true }),
  numbered("messages_unacknowledged", "Unacked", (queue) => count(queue.messages_unacknowledged), { isUsual: true, isOnPhone: true }),
  numbered("bytes", "Bytes ready", (queue) => bytes(queue.bytes)),
  numbered("consumers", "Consumers", (queue) => count(queue.consumers), { isUsual: true }),
  numbered("in", "In /s", (queue) => rate(queue.in), { isUsual: true }),
  numbered("out", "Out /s", (queue) => rate(queue.out), { isUsual: true }),
  { key: "type", sort: "type", label: "Type", class: "c-type", show: (queue) => queue.type },
  { key: "policy", label: "Policy", class: "c-policy", show: (queue) => <Name empty="–">{queue.policy}</Name> },
  { key: "vhost", sort: "vhost", label: "Virtual host", class: "c-host", show: (queue) => <Name>{queue.vhost}</Name> },
];
const USUAL = COLUMNS.filter((one) => one.isUsual).map((one) => one.key);
const KEPT = "queue-columns";
const chosenOf = (text) => (text ? COLUMNS.filter((one) => text.split(",").includes(one.key)) : COLUMNS.filter((one) => one.isUsual));

// What the overview says of queues.
const WRONG = {
  growing: "growing, nobody consumes", waiting: "waiting, nobody consumes",
  growing_consumed: "growing, its consumers take nothing", unacknowledged: "delivered, none acknowledged lately",
};

export function stateOf(queue) {
  if (queue.type === "stream") return queue.consumers ? ["ok", "read"] : ["idle", "kept"];
  if (queue.problem) return [queue.problem.severity, WRONG[queue.problem.kind] ?? queue.problem.kind];
  if (queue.consumers) return ["ok", "consumed"];
  return ["idle", "idle"];
}

const SHORT = { "x-message-ttl": "TTL", "x-expires": "Exp", "x-max-length": "Lim", "x-max-length-bytes": "LimB", "x-dead-letter-exchange": "DLX", "x-single-active-consumer": "SAC", "x-max-priority": "Pri", "x-overflow": "Ovfl", "x-queue-mode": "Mode", "x-max-age": "Age", "x-replay-ms": "Past" };

export function Features({ queue }) {
  const marks = [];
  if (queue.type !== "classic") marks.push([queue.type, `a ${queue.type} queue`]);
  if (!queue.durable) marks.push(["transient", "it goes with the broker"]);
  if (queue.auto_delete) marks.push(["AD", "deleted with its last consumer"]);
  if (queue.exclusive) marks.push(["excl", "of one connection"]);
  for (const [name, value] of Object.entries(queue.arguments)) if (SHORT[name]) marks.push([SHORT[name], `${name} ${value}`]);
  if (queue.policy) marks.push([queue.policy, `policy ${queue.policy}`, "accent"]);
  return <span class="features" title={marks.map(([, title]) => title).join("\n")}>{marks.map(([words, title, tone]) => <Tag title={title} tone={tone}>{words}</Tag>)}</span>;
}

/** Which columns are shown. */
function ColumnChoice({ columns }) {
  const toggled = (key, isOn) => {
    const keys = COLUMNS.map((one) => one.key).filter((one) => (one === key ? isOn : columns.some((column) => column.key === one)));
    const text = keys.join(",") === USUAL.join(",") ? "" : keys.join(",") || "name";
    localStorage.setItem(KEPT, text);
    setQuery({ columns: text });
  };
  const closed = (event) => event.key === "Escape" && (event.currentTarget.open = false);
  const left = (event) => event.currentTarget.contains(event.relatedTarget) || (event.currentTarget.open = false);
  return (
    <details class="columns" onKeyDown={closed} onFocusOut={left}>
      <summary>Columns</summary>
      <div class="columns-list" role="group" aria-label="columns" tabIndex="-1">{COLUMNS.map((one) => <Check key={one.key} label={one.label} checked={columns.includes(one)} onValue={(isOn) => toggled(one.key, isOn)} />)}</div>
    </details>
  );
}

function Row({ queue, at, showHost, columns }) {
  const style = { transform: `translateY(${at * ROW}px)` };
  if (!queue) return <div class="q-row loading" role="row" style={style}><span class="c-name" role="cell"><span class="bone" /></span></div>;
  const [kind, words] = stateOf(queue);
  return (
    <div class="q-row" role="row" style={style} aria-rowindex={at + 2}>
      <span class="c-name" role="cell">
        <span title={words}><Sign kind={kind} /><span class="unseen">{words}</span></span>
        <a href={to("queues", queue.vhost, queue.name)}><Name>{queue.name}</Name></a>
        {showHost && queue.vhost !== "/" && <span class="quiet vhost"><Name>{queue.vhost}</Name></span>}
      </span>
      {columns.map((one) => <span key={one.key} class={`${one.class} ${one.number && !queue[one.key] ? "zero" : ""} ${one.isOnPhone ? "" : "wide-only"}`} role="cell">{one.show(queue)}</span>)}
    </div>
  );
}

export function AddQueue({ types, onClose }) {
  const hosts = useVirtualHosts();
  const { query } = useRoute();
  return (
    <FormDialog title="Add a queue" submit="Add queue" onClose={onClose} onSubmit={async (form) => {
      const table = readTable(form.arguments);
      if (form.type !== "classic") table["x-queue-type"] = form.type;
      await put(path("queues", form.vhost, form.name), { durable: form.durable === "on", auto_delete: form.auto_delete === "on", arguments: table });
      setTimeout(() => go(to("queues", form.vhost, form.name)));
    }}>
      <Field label="Name"><input name="name" required maxLength={255} autofocus autocomplete="off" spellcheck={false} /></Field>
      <Field label="Virtual host"><Select name="vhost" options={hosts} initial={query.vhost || hosts[0]} /></Field>
      <Field label="Type"><select name="type">{types.map((type) => <option>{type}</option>)}</select></Field>
      <div class="field"><span class="label">Properties</span><div class="checks"><Check name="durable" label="durable" checked /><Check name="auto_delete" label="auto-delete" /></div></div>
      <Field wide label="Arguments" hint="One a line, such as x-max-length = 1000, or a JSON object."><textarea name="arguments" rows={3} spellcheck={false} /></Field>
    </FormDialog>
  );
}

export function Queues() {
  const { query } = useRoute();
  const hosts = useVirtualHosts();
  const columns = chosenOf(query.columns ?? localStorage.getItem(KEPT));
  const body = useRef(null);
  const [{ first, window: size }, setPlace] = useState({ first: 0, window: RESTING.window });
  const known = useRef({ rows: [] }); // what was seen before: it stands in until what is now is here
  useEffect(() => {
    let frame = 0;
    let settled = 0;
    const look = ({ step, window: rows }) => {
      if (!body.current) return;
      const at = Math.floor(Math.max(0, -body.current.getBoundingClientRect().top) / ROW);
      const next = Math.max(0, Math.floor(at / step) * step - step);
      setPlace((place) => (place.first === next && place.window === rows ? place : { first: next, window: rows }));
    };
    const scrolled = () => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => look(SCROLLING));
      clearTimeout(settled);
      settled = setTimeout(() => look(RESTING), SETTLED_MS);
    };
    window.addEventListener("scroll", scrolled, { passive: true });
    window.addEventListener("resize", scrolled);
    return () => {
      window.removeEventListener("scroll", scrolled);
      window.removeEventListener("resize", scrolled);
      cancelAnimationFrame(frame);
      clearTimeout(settled);
    };
  }, []);
  const filters = { vhost: query.vhost, name: query.name, use_regex: query.regex, type: query.type, state: query.state, sort: query.sort, sort_reverse: query.reverse };
  const { data, error, isStale } = useLive(withQuery("/api/x/queues", { ...filters, offset: first, limit: size }));
  const order = JSON.stringify(filters);
  if (data && !isStale) {
    if (known.current.order !== order) known.current = { order, rows: [] };
    data.items.forEach((queue, n) => (known.current.rows[data.offset + n] = queue));
  }
  const filtered = data?.filtered ?? 0;
  useEffect(() => {
    if (data && !isStale && first && first >= filtered) setPlace({ first: 0, window: size });
  }, [filtered, first, isStale]);
  const isFiltered = query.vhost || query.name || query.type || query.state;
  const clear = () => setQuery({ vhost: "", name: "", type: "", state: "", regex: "" });
  const visible = [];
  if (!data && !error) visible.push(...Array(SKELETON).keys());
  if (data) for (let at = first; at < Math.min(first + size, filtered); at += 1) visible.push(at);
  return (
    <>
      <Heading title="Queues"><button class="primary" onClick={() => setQuery({ add: "true" })}>Add a queue</button></Heading>
      {query.add && <AddQueue types={data?.types ?? ["classic"]} onClose={() => setQuery({ add: "" })} />}
      <div class="filters">
        <Search value={query.name} onValue={(name) => setQuery({ name })} label="Find a queue" />
        <Check label="pattern" checked={Boolean(query.regex)} onValue={(regex) => setQuery({ regex: regex ? "true" : "" })} />
        <Choice label="State" value={query.state} options={STATES} onValue={(state) => setQuery({ state })} />
        <Choice label="Type" value={query.type} options={[["", "any type"], ...(data?.types ?? [])]} onValue={(type) => setQuery({ type })} />
        {hosts.length > 1 && <Choice label="Virtual host" value={query.vhost} options={[["", "all virtual hosts"], ...hosts]} onValue={(vhost) => setQuery({ vhost })} />}
        <ColumnChoice columns={columns} />
        <span class="total" aria-live="polite">{data ? (isFiltered ? `${count(filtered)} of ${count(data.total)}` : count(data.total)) : ""}</span>
      </div>
      {error && <Failed error={error} />}
      {data && !filtered ? (
        isFiltered
          ? <Empty title="No queue is like that."><button onClick={clear}>Show all {count(data.total)}</button></Empty>
          : <Empty title="There is no queue yet."><p>Clients declare the queues they need. You can add one by hand as well.</p><button class="primary" onClick={() => setQuery({ add: "true" })}>Add a queue</button></Empty>
      ) : (
        <div class="q-table" role="table" aria-label="queues" aria-rowcount={filtered + 1}>
          <div class="q-row q-head" role="row">
            {[NAME, ...columns].map((column) => {
              const isSorted = column.sort && (query.sort || "name") === column.sort;
              return (
                <span role="columnheader" key={column.key} class={`${column.class} ${column === NAME || column.isOnPhone ? "" : "wide-only"}`} aria-sort={isSorted ? (query.reverse ? "descending" : "ascending") : undefined}>
                  {column.sort
                    ? <button class="sorter" onClick={() => setQuery({ sort: column.sort, reverse: (isSorted ? !query.reverse : column.number) ? "true" : "" })}>{column.label}<span aria-hidden="true">{isSorted ? (query.reverse ? " ↓" : " ↑") : ""}</span></button>
                    : column.label}
                </span>
              );
            })}
          </div>
          <div class="q-body" role="rowgroup" ref={body} style={{ height: `${Math.max(filtered, data ? 0 : SKELETON) * ROW}px` }}>
            {visible.map((at) => <Row key={at} at={at} queue={known.current.rows[at]} showHost={!query.vhost && hosts.length > 1} columns={columns} />)}
          </div>
        </div>
      )}
    </>
  );
}
