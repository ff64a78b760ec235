// Messages: how one is shown, how one is published, and what is in a queue without taking it out.
import { useState } from "preact/hooks";
import { ask, isMonitor, path, usePolled, withQuery } from "./api.js";
import { bytes, count, duration, moment, plural, visible } from "./format.js";
import { attempt, Check, Choice, Dialog, Empty, Failed, Field, FormDialog, formOf, later, Name, NameInput, Pairs, readTable, say, Search, Select, Sign, Switch, Tag, valueOf } from "./parts.jsx";
import { setQuery, to, toQuery, useRoute } from "./route.js";

// --- a payload

const decoded = (message) => {
  if (message.payload_encoding !== "base64") return new TextEncoder().encode(message.payload);
  return Uint8Array.from(atob(message.payload), (character) => character.charCodeAt(0));
};

export function hexOf(data) {
  const lines = [];
  for (let at = 0; at < data.length; at += 16) {
    const part = [...data.slice(at, at + 16)];
    const numbers = part.map((one) => one.toString(16).padStart(2, "0")).join(" ");
    const text = part.map((one) => (one > 31 && one < 127 ? String.fromCharCode(one) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${numbers.padEnd(47)}  ${text}`);
  }
  return lines.join("\n");
}

/** JSON in colours: parts of text, never HTML. */
function Json({ value }) {
  const text = JSON.stringify(value, null, 2);
  const parts = text.split(/("(?:[^"\\]|\\.)*"(?:\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/);
  return parts.map((part, n) => (n % 2 ? <span class={part.endsWith(":") ? "json-key" : part.startsWith('"') ? "json-text" : "json-other"}>{part}</span> : part));
}

export function Payload({ message }) {
  let json;
  try {
    const value = message.payload_encoding === "base64" ? undefined : JSON.parse(message.payload);
    if (typeof value === "object" && value !== null) json = value;
  } catch {
    json = undefined;
  }
  const [form, setForm] = useState("");
  const chosen = form || (json ? "JSON" : message.payload_encoding === "base64" ? "Hex" : "Text");
  const data = decoded(message);
  const save = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([data]));
    link.download = `message-${message.properties?.message_id ?? message.id ?? "body"}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  return (
    <div>
      <div class="filters">
        <Switch label="form of the body" value={chosen} onValue={setForm} options={["JSON", "Text", "Hex"].filter((one) => one !== "JSON" || json).map((one) => [one, one])} />
        <span class="quiet">{bytes(message.payload_bytes)}{message.is_payload_cut ? `, the first ${bytes(data.length)} are shown` : ""}</span>
        {data.length > 0 && <button class="small" onClick={save}>Download</button>}
      </div>
      {data.length === 0
        ? <p class="quiet">The body is empty.</p>
        : <pre class={`payload mono ${chosen === "Hex" ? "hex" : ""}`} tabIndex="0" role="region" aria-label="the body">{chosen === "JSON" ? <Json value={json} /> : chosen === "Hex" ? hexOf(data) : new TextDecoder().decode(data)}</pre>}
    </div>
  );
}

const REASONS = { rejected: "was rejected", expired: "expired", maxlen: "was pushed out by the length limit", delivery_limit: "was delivered too often" };

/** How a message came here, by its deaths: the first at the top. */
function Deaths({ deaths, at }) {
  return (
    <ol class="deaths">
      {[...deaths].reverse().map((death) => (
        <li>
          <div>It {REASONS[death.reason] ?? `died (${death.reason})`} in <b><Name>{death.queue}</Name></b>{death.count > 1 && <>, {plural(death.count, "time")}</>}</div>
          <div class="quiet">{typeof death.time === "number" ? moment(death.time * 1000) : death.time ? String(death.time) : ""}{death.exchange !== undefined && <>; it was published to <Name empty="the default exchange">{death.exchange}</Name> with <Name empty="an empty key">{death["routing-keys"]?.[0]}</Name></>}</div>
        </li>
      ))}
      {at && <li><div>It is in <b><Name>{at}</Name></b> now</div></li>}
    </ol>
  );
}

const PERSISTENT = 2;
/** A property, and what is meant by the number that it is. */
const shownAs = (name, value) =>
  name === "timestamp" && typeof value === "number" && value < 8.64e12 ? `${value}, ${moment(value * 1000)}` : name === "delivery_mode" ? `${value}, ${value === PERSISTENT ? "persistent" : "transient"}` : valueOf(value);

export function Message({ message, queue, came, due }) {
  const { headers = {}, ...properties } = message.properties ?? {};
  const ids = ["message_id", "correlation_id"].filter((name) => properties[name]);
  const deaths = message.x_death?.length ? message.x_death : Array.isArray(headers["x-death"]) ? headers["x-death"] : [];
  const others = Object.entries(headers).filter(([name]) => !deaths.length || !/^x-(death$|first-death-|last-death-)/.test(name));
  return (
    <div class="stack">
      <Pairs pairs={[
        ["Offset", came !== undefined ? message.offset.toLocaleString("en") : null],
        ["Came", came ? moment(came) : null],
        ["Exchange", <Name empty="(default)">{message.exchange}</Name>],
        ["Routing key", <Name empty="(empty)">{message.routing_key}</Name>],
        ["State", message.held_by ? <Sign kind="mild">with {message.held_by.consumer_tag ?? "basic.get"} for {duration(message.held_by.for_ms)}</Sign> : message.state && <Sign kind="ok">{message.state}</Sign>],
        ["Due", due],
        ["Redelivered", came !== undefined || due !== undefined ? null : message.redelivered ? "yes" : "no"],
        ["Age", message.age_ms !== undefined && message.age_ms !== null ? duration(message.age_ms) : null],
        ["Expires in", message.expires_in_ms !== undefined && message.expires_in_ms !== null ? duration(message.expires_in_ms) : null],
        ...Object.entries(properties).map(([name, value]) => [name[0].toUpperCase() + name.slice(1).replaceAll("_", " "), <bdi>{shownAs(name, value)}</bdi>]),
      ]} />
      {others.length > 0 && <div><h2>Headers</h2><Pairs pairs={others.map(([name, value]) => [<bdi>{name}</bdi>, <bdi>{valueOf(value)}</bdi>])} /></div>}
      {deaths.length > 0 && <div><h2>How it came here</h2><Deaths deaths={deaths} at={queue} /></div>}
      {ids.length > 0 && isMonitor() && <p>{ids.slice(0, 1).map((name) => <a href={toQuery(to("trace"), { [name]: properties[name] })}>Trace it by its {name.replace("_", " ")}</a>)}</p>}
      <Payload message={message} />
    </div>
  );
}

// --- publishing

const HISTORY = "published";
const history = () => {
  try {
    return JSON.parse(sessionStorage.getItem(HISTORY)) ?? [];
  } catch {
    return [];
  }
};

function remember(published) {
  try {
    sessionStorage.setItem(HISTORY, JSON.stringify([published, ...history()].slice(0, 20)));
  } catch {
    // it is too large for what the browser keeps: it was published all the same
  }
}

/** A form that publishes; `exchange` and `routingKey` are given where it is clear where to. */
export function Publish({ vhost, exchange, routingKey, onDone, initial = {} }) {
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submitted = async (event) => {
    const form = formOf(event);
    setError("");
    setBusy(true);
    try {
      const properties = { delivery_mode: form.persistent === "on" ? 2 : 1, headers: readTable(form.headers) };
      for (const name of ["content_type", "message_id", "correlation_id", "reply_to", "expiration"]) if (form[name]) properties[name] = form[name];
      if (form.priority) properties.priority = Number(form.priority);
      Object.assign(properties, readTable(form.others));
      const to_exchange = exchange ?? form.exchange;
      const { routed } = await ask("POST", path("exchanges", vhost, to_exchange || "amq.default", "publish"), { properties, routing_key: routingKey ?? form.routing_key, payload: form.payload, payload_encoding: form.encoding });
      remember({ ...form, vhost, exchange: to_exchange, routing_key: routingKey ?? form.routing_key, at: Date.now(), routed });
      say(routed ? "Published." : "Published, but no queue took it: nothing is bound with that key.", routed ? "ok" : "mild");
      onDone?.();
    } catch (problem) {
      setError(problem.message);
    }
    setBusy(false);
  };
  return (
    <form class="form" onSubmit={submitted}>
      {exchange === undefined && <Field label="Exchange" hint="Leave it empty for the default exchange."><NameInput noun="exchanges" vhost={vhost} name="exchange" defaultValue={initial.exchange} /></Field>}
      {routingKey === undefined && <Field label="Routing key"><input name="routing_key" defaultValue={initial.routing_key} autocomplete="off" spellcheck={false} /></Field>}
      <Field wide label="Body"><textarea name="payload" rows={6} spellcheck={false} defaultValue={initial.payload} /></Field>
      <Field label="Encoding"><Select name="encoding" options={[["string", "text"], ["base64", "base64, for bytes that are no text"]]} initial={initial.encoding} /></Field>
      <Field label="Content type"><input name="content_type" list="content-types" defaultValue={initial.content_type} /><datalist id="content-types"><option value="application/json" /><option value="text/plain" /></datalist></Field>
      <Field label="Message id"><input name="message_id" defaultValue={initial.message_id} /></Field>
      <Field label="Correlation id"><input name="correlation_id" defaultValue={initial.correlation_id} /></Field>
      <Field label="Reply to"><input name="reply_to" defaultValue={initial.reply_to} /></Field>
      <Field label="Expires after (ms)"><input name="expiration" inputmode="numeric" defaultValue={initial.expiration} /></Field>
      <Field label="Priority"><input name="priority" type="number" min="0" max="255" defaultValue={initial.priority} /></Field>
      <div class="field"><span class="label">Delivery mode</span><Check name="persistent" label="persistent" checked={!initial.at || initial.persistent === "on"} /></div>
      <Field label="Headers" hint="One a line, such as source = shop, or a JSON object."><textarea name="headers" rows={2} spellcheck={false} defaultValue={initial.headers} /></Field>
      <Field label="Other properties" hint="One a line: type, app_id, timestamp, user_id, content_encoding"><textarea name="others" rows={2} spellcheck={false} defaultValue={initial.others} /></Field>
      {error && <Failed error={error} />}
      <footer><button class="primary" disabled={isBusy}>Publish</button></footer>
    </form>
  );
}

export const publishedBefore = history;

// --- what is in a queue

const SIZE = 50;
const STATES = [["", "ready and unacked"], ["ready", "ready"], ["unacked", "unacknowledged"]];

/** What the search field says, as the API asks for it: `header.source:shop`, `json.order.id:7`, `key:a.b`, or text. */
export function filterOf(text) {
  const query = {};
  const rest = [];
  for (const word of text.match(/\S+:"[^"]*"|\S+/g) ?? []) {
    const at = word.indexOf(":");
    const name = { key: "routing_key", exchange: "exchange", id: "property.message_id" }[word.slice(0, at)] ?? word.slice(0, at);
    if (at > 0 && /^(header\.|json\.|property\.|routing_key$|exchange$)/.test(name)) query[name] = word.slice(at + 1).replace(/^"|"$/g, "");
    else rest.push(word);
  }
  if (rest.length) query.search = rest.join(" ");
  return query;
}

export function MessagesOf({ vhost, name, may }) {
  const { query } = useRoute();
  const [offset, setOffset] = useState(0);
  const [chosen, setChosen] = useState(null);
  const [marked, setMarked] = useState(new Set());
  const [act, setAct] = useState("");
  const filter = filterOf(query.find ?? "");
  const base = `/api/x${path("queues", vhost, name, "messages").slice(4)}`;
  const { data, error, status, again } = usePolled(withQuery(base, { offset: offset || "", limit: SIZE, state: query.state, ...filter }), 0);
  const messages = data?.messages ?? [];
  const shown = messages.find((one) => one.id === chosen) ?? messages[0];
  const mark = (id, isOn) => {
    const next = new Set(marked);
    if (isOn) next.add(id);
    else next.delete(id);
    setMarked(next);
  };
  if (error && status === 404) return <Empty title="This broker cannot look into queues yet." />;
  return (
    <>
      <div class="filters">
        <Search value={query.find} onValue={(find) => (setOffset(0), setQuery({ find }))} label="Text, header.a:1, json.b:2" />
        <Choice label="State" value={query.state} options={STATES} onValue={(state) => (setOffset(0), setQuery({ state }))} />
        <button onClick={again}>Look again</button>
        {may && messages.length > 0 && (
          <span class="actions">
            <button onClick={() => setAct("move")}>Move</button>
            <button onClick={() => setAct("copy")}>Copy</button>
            <button class="danger" onClick={() => setAct("delete")}>Delete</button>
          </span>
        )}
        <span class="total">{marked.size ? `${marked.size} marked` : data ? `${count(data.messages_ready)} ready, ${count(data.messages_unacknowledged)} unacked` : ""}</span>
      </div>
      {error && <Failed error={error} />}
      {data && !messages.length && (query.find || query.state
        ? <Empty title="No message is like that."><p>{plural(data.looked_at, "message")} looked at.</p><button onClick={() => setQuery({ find: "", state: "" })}>Show all</button></Empty>
        : <Empty title="The queue is empty."><p><a href={toQuery(to("queues", vhost, name), { tab: "publish" })}>Publish something to it</a>, or wait for its publishers. Looking takes nothing out.</p></Empty>)}
      {messages.length > 0 && (
        <div class="messages">
          <div>
            <ul class="message-list">
              {messages.map((message) => (
                <li key={message.id} aria-current={message === shown ? "true" : undefined}>
                  {may && message.state === "ready" && <input type="checkbox" aria-label={`mark message ${message.offset + 1}`} checked={marked.has(message.id)} onChange={(event) => mark(message.id, event.target.checked)} />}
                  <button onClick={() => setChosen(message.id)}>
                    <span class="line-1"><bdi>{visible(message.routing_key) || "(empty key)"}</bdi><span>{message.held_by ? <Sign kind="mild">held</Sign> : bytes(message.payload_bytes)}</span></span>
                    <span class="line-2 mono">{message.payload_encoding === "base64" ? `${bytes(message.payload_bytes)} that are no text` : message.payload.slice(0, 160) || "(no body)"}</span>
                  </button>
                </li>
              ))}
            </ul>
            <div class="pager">
              {offset > 0 && <button onClick={() => setOffset(0)}>From the head</button>}
              {data.next_offset !== null && <button onClick={() => setOffset(data.next_offset)}>Further on</button>}
            </div>
            {data.stopped_by !== "end" && data.stopped_by !== "limit" && <p class="quiet">{plural(data.looked_at, "message")} looked at; there are more further on.</p>}
          </div>
          {shown && <section class="panel" aria-label="a message"><Message key={shown.id} message={shown} queue={name} /></section>}
        </div>
      )}
      {act && <MoveDialog act={act} vhost={vhost} name={name} base={base} filter={filter} marked={[...marked]} onClose={() => setAct("")} onDone={() => (setMarked(new Set()), again())} />}
    </>
  );
}

const ACTS = { move: "Move", copy: "Copy", delete: "Delete", replay: "Replay" };
const DONE = { move: "moved", copy: "copied", delete: "deleted", replay: "replayed" };
const SINCE = [["10", "the last 10 minutes"], ["60", "the last hour"], ["1440", "the last day"], ["", "all that is remembered"]];

/** What a queue got since a time, once more to another one. */
export function Replay({ vhost, name, onClose }) {
  const base = `/api/x${path("queues", vhost, name, "messages").slice(4)}`;
  return <MoveDialog act="replay" vhost={vhost} name={name} base={base} filter={{}} marked={[]} onClose={onClose} onDone={() => {}} />;
}

/** Move, copy, replay or delete what is marked, or all that the search finds: first it is counted, then it is done. */
function MoveDialog({ act, vhost, name, base, filter, marked, onClose, onDone }) {
  const [error, setError] = useState("");
  const [counted, setCounted] = useState(null);
  const [target, setTarget] = useState(act === "delete" ? "" : "queue");
  const what = marked.length ? { ids: marked } : Object.keys(filter).length ? { filter: bodyOf(filter) } : {};
  const where = (form) => (act === "delete" ? {} : target === "origin" ? { origin: true } : target === "queue" ? { to: { queue: form.queue } } : { to: { exchange: form.exchange, ...(form.routing_key ? { routing_key: form.routing_key } : {}) } });
  const request = (form, dry) => {
    const body = { ...what, ...where(form), dry_run: dry, ...(form.limit ? { limit: Number(form.limit) } : {}), ...(form.since ? { last_ms: Number(form.since) * 60_000 } : {}) };
    if (form.find) body.filter = bodyOf(filterOf(form.find));
    return act === "delete" ? ask("DELETE", base, body) : ask("POST", base.replace(/messages$/, act), body);
  };
  const submitted = async (event) => {
    const form = formOf(event);
    setError("");
    try {
      if (!counted) {
        setCounted(await request(form, true));
        return;
      }
      onClose();
      const run = async () => {
        const result = await request(form, false);
        onDone();
        say(wordsOf(result, act), result.done < result.found ? "mild" : "ok");
      };
      if (act === "delete") later(`Deleting ${plural(numberOf(counted), "message")} of ${name}`, run);
      else await attempt(run);
    } catch (problem) {
      setError(problem.status === 404 || problem.status === 405 ? "This broker cannot do that yet." : problem.message);
    }
  };
  const scope = marked.length ? `the ${plural(marked.length, "message")} that you marked` : Object.keys(filter).length ? "all that the search finds" : "all messages that are ready";
  return (
    <Dialog title={`${ACTS[act]} messages`} onClose={onClose}>
      <form class="form" onSubmit={submitted} onInput={() => setCounted(null)}>
        <p>{act === "replay" ? <>What <b><Name>{name}</Name></b> got goes to another queue once more, consumed since or not. The queue itself is left alone.</> : <>{ACTS[act]} {scope} in <b><Name>{name}</Name></b>.</>}</p>
        {act === "replay" && <>
          <Field label="Since"><select name="since">{SINCE.map(([key, words]) => <option value={key}>{words}</option>)}</select></Field>
          <Field label="Only those with" hint="text, header.a:1, json.b:2"><input name="find" autocomplete="off" spellcheck={false} /></Field>
        </>}
        {act !== "delete" && <>
          <Field label="To"><select value={target} onChange={(event) => setTarget(event.target.value)}><option value="queue">a queue</option><option value="exchange">an exchange</option>{act !== "replay" && <option value="origin">where each died</option>}</select></Field>
          {target === "queue" && <Field label="Queue"><NameInput noun="queues" vhost={vhost} name="queue" required /></Field>}
          {target === "exchange" && <Field label="Exchange"><NameInput noun="exchanges" vhost={vhost} name="exchange" /></Field>}
          {target === "exchange" && <Field label="Routing key" hint="Left empty, each keeps its own."><input name="routing_key" /></Field>}
        </>}
        {!marked.length && <Field label="At most" hint="Left empty: no limit."><input name="limit" type="number" min="1" /></Field>}
        {counted && <p class="full"><Sign kind="mild">{plural(numberOf(counted), "message")} would be {DONE[act]}.{Object.entries(STAYED).filter(([name]) => counted[name]).map(([name, words]) => ` ${count(counted[name])} would stay: ${words}.`)}</Sign></p>}
        {counted?.sample.length > 0 && <ul class="full sample" aria-label="some of them">{counted.sample.map((one) => <li><bdi>{one.routing_key || "(empty key)"}</bdi> <span class="mono">{one.payload_encoding === "base64" ? `${bytes(one.payload_bytes)} that are no text` : one.payload.slice(0, 120) || "(no body)"}</span></li>)}</ul>}
        {error && <Failed error={error} />}
        <footer><button type="button" onClick={onClose}>Cancel</button><button class={act === "delete" && counted ? "danger" : "primary"}>{counted ? `${ACTS[act]} ${count(numberOf(counted))}` : "Count first"}</button></footer>
      </form>
    </Dialog>
  );
}

/** The same as a body of the API has it. */
export const bodyOf = (filter) => {
  const body = {};
  for (const [name, value] of Object.entries(filter)) {
    const at = name.indexOf(".");
    if (at < 0) body[name] = value;
    else (body[{ header: "headers", property: "properties", json: "json" }[name.slice(0, at)]] ??= {})[name.slice(at + 1)] = value;
  }
  return body;
};
const numberOf = (result) => result?.found ?? 0;
const STAYED = { unroutable: "no queue wants", refused: "the new queue refused", without_origin: "never died, or where it died is gone", not_allowed: "you may not write there", gone: "somebody else had first" };
const wordsOf = (result, act) => [
  `${plural(result.done, "message")} ${DONE[act]}`,
  ...Object.entries(STAYED).filter(([name]) => result[name]).map(([name, words]) => `${count(result[name])} stayed: ${words}`),
].join("; ") + ".";
