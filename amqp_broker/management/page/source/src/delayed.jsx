// What exchanges hold back until it is due: which exchanges do, what they hold, cancelled or delivered now.
import { useState } from "preact/hooks";
import { ask, path, usePolled, withQuery } from "./api.js";
import { bytes, count, duration, moment, plural, visible } from "./format.js";
import { attempt, Dialog, Empty, Failed, Field, formOf, Heading, later, Name, Paged, say, Search, Sign, Tag, useVirtualHosts } from "./parts.jsx";
import { bodyOf, filterOf, Message } from "./messages.jsx";
import { setQuery, to, useRoute } from "./route.js";

const SIZE = 50;
const CALENDAR_ENDS_MS = 8.64e15; // of the browser; a delay may be longer

const dueIn = (ms) => (ms < 1000 ? "now" : `in ${duration(ms)}`);
const dueAt = (ms) => (ms < CALENDAR_ENDS_MS ? moment(ms) : "after the calendar's end");
/** The header that it goes out with says how long it was held; while it is, the due time says more. */
const withoutDelay = (message) => {
  const { "x-delay": _, ...headers } = message.properties.headers ?? {};
  return { ...message, properties: { ...message.properties, headers } };
};
const apiPath = (...names) => `/api/x${path("delayed", ...names).slice(4)}`;

const HowTo = () => <p>A message waits in its exchange for as many milliseconds as its header <code>x-delay</code> says. The exchange is of type <code>x-delayed-message</code>, has the argument <code>x-delayed-exchange</code>, or a policy with <code>delayed-message</code>.</p>;

export function Delayed() {
  const hosts = useVirtualHosts();
  return (
    <>
      <Heading title="Delayed messages" />
      <Paged base="/api/x/delayed" label="exchanges that hold messages back" rowKey={(one) => `${one.vhost} ${one.name}`} empty={<Empty title="No exchange holds messages back."><HowTo /></Empty>} columns={[
        { label: "Exchange", narrow: true, sort: "name", show: (one) => <a href={to("delayed", one.vhost, one.name)}><Name>{one.name}</Name></a> },
        { label: "Virtual host", sort: "vhost", show: (one) => <Name>{one.vhost}</Name> },
        { label: "Type", sort: "type", show: (one) => <><Tag>{one.type}</Tag> {!one.delaying && <Tag title="what it holds still goes in its time">holds no more back</Tag>}</> },
        { label: "Held", narrow: true, number: true, sort: "messages_delayed", show: (one) => count(one.messages_delayed) },
        { label: "Next due", narrow: true, sort: "next_due", show: (one) => (one.next_due === null ? <span class="quiet">–</span> : <span title={dueAt(one.next_due)}>{dueIn(one.next_due_in_ms)}</span>) },
      ].filter((one) => one.label !== "Virtual host" || hosts.length > 1)} />
    </>
  );
}

const ACTS = {
  cancel: { title: "Cancel messages", then: "Nobody gets them.", doing: "Cancelling", done: "cancelled", verb: "Cancel" },
  deliver: { title: "Deliver messages now", then: "They go at once, as if their time had come.", doing: "Delivering", done: "delivered", verb: "Deliver" },
};

/** Cancel or deliver what is marked, or all that the search finds: first it is counted, then it is done. */
function ActDialog({ act, vhost, name, filter, marked, onClose, onDone }) {
  const [error, setError] = useState("");
  const [counted, setCounted] = useState(null);
  const words = ACTS[act];
  const request = (form, dry_run) => {
    const limit = form.limit ? { limit: Number(form.limit) } : {};
    const body = { ...(marked.length ? { ids: marked } : { filter: bodyOf(filter) }), dry_run, ...limit };
    if (!marked.length && !Object.keys(filter).length && !form.limit) body.limit = 1e12; // all of them, as was said
    return act === "cancel" ? ask("DELETE", apiPath(vhost, name), body) : ask("POST", apiPath(vhost, name, "deliver"), body);
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
        const { done } = await request(form, false);
        onDone();
        say(`${plural(done, "message")} ${words.done}.`);
      };
      if (act === "cancel") later(`${words.doing} ${plural(counted.done, "message")} of ${name}`, run);
      else await attempt(run);
    } catch (problem) {
      setError(problem.message);
    }
  };
  const scope = marked.length ? `the ${plural(marked.length, "message")} that you marked` : Object.keys(filter).length ? "all that the search finds" : "all messages that are held";
  return (
    <Dialog title={words.title} onClose={onClose}>
      <form class="form" onSubmit={submitted} onInput={() => setCounted(null)}>
        <p>{words.verb} {scope} in <b><Name>{name}</Name></b>. {words.then}</p>
        {!marked.length && <Field label="At most" hint="Left empty: no limit. What is due next comes first."><input name="limit" type="number" min="1" /></Field>}
        {counted && <p class="full"><Sign kind="mild">{plural(counted.done, "message")} would be {words.done}.</Sign></p>}
        {error && <Failed error={error} />}
        <footer><button type="button" onClick={onClose}>Leave them</button><button class={act === "cancel" && counted ? "danger" : "primary"} disabled={counted && !counted.done}>{counted ? `${words.verb} ${count(counted.done)}` : "Count first"}</button></footer>
      </form>
    </Dialog>
  );
}

export function DelayedIn({ names: [vhost, name] }) {
  const { query } = useRoute();
  const [after, setAfter] = useState("");
  const [chosen, setChosen] = useState(null);
  const [marked, setMarked] = useState(new Set());
  const [act, setAct] = useState("");
  const filter = filterOf(query.find ?? "");
  const { data, error, again } = usePolled(withQuery(apiPath(vhost, name), { limit: SIZE, after, ...filter }), query.find || after ? 0 : 5000); // a search may look at thousands
  const messages = data?.messages ?? [];
  const shown = messages.find((one) => one.id === chosen) ?? messages[0];
  const mark = (id, isOn) => {
    const next = new Set(marked);
    if (isOn) next.add(id);
    else next.delete(id);
    setMarked(next);
  };
  const heading = <Heading title={<Name>{name}</Name>} above={<><a href={to("delayed")}>Delayed messages</a> in <Name>{vhost}</Name></>}><a class="button" href={to("exchanges", vhost, name)}>The exchange</a></Heading>;
  if (error && !data) return <>{heading}<Empty title={error}><a href={to("delayed")}>All exchanges that hold messages back</a></Empty></>;
  if (!data) return <>{heading}<span class="bone" /></>;
  return (
    <>
      {heading}
      <div class="filters">
        <Search value={query.find} onValue={(find) => (setAfter(""), setQuery({ find }))} label="Text, key:a.*, header.a:1, json.b:2" />
        <button onClick={again}>Look again</button>
        {messages.length > 0 && (
          <span class="actions">
            <button onClick={() => setAct("deliver")}>Deliver now</button>
            <button class="danger" onClick={() => setAct("cancel")}>Cancel</button>
          </span>
        )}
        <span class="total">{marked.size ? `${marked.size} marked` : `${plural(data.held, "message")} held`}</span>
      </div>
      {error && <Failed error={error} />}
      {!messages.length && (query.find || after
        ? <Empty title={data.next === null ? "No message is like that." : "None of these is like that."}><p>{plural(data.looked_at, "message")} looked at.</p>{data.next !== null && <button onClick={() => setAfter(data.next)}>Search on</button>} <button onClick={() => (setAfter(""), setQuery({ find: "" }))}>Show all</button></Empty>
        : <Empty title="Nothing is held back."><HowTo /></Empty>)}
      {messages.length > 0 && (
        <div class="messages">
          <div>
            <ul class="message-list">
              {messages.map((message) => (
                <li key={message.id} aria-current={message === shown ? "true" : undefined}>
                  <input type="checkbox" aria-label={`mark message ${message.id}`} checked={marked.has(message.id)} onChange={(event) => mark(message.id, event.target.checked)} />
                  <button onClick={() => setChosen(message.id)} title={`due ${dueAt(message.due)}`}>
                    <span class="line-1"><span><b>{dueIn(message.due_in_ms)}</b> <bdi>{visible(message.routing_key) || "(empty key)"}</bdi></span><span>{bytes(message.payload_bytes)}</span></span>
                    <span class="line-2 mono">{message.payload_encoding === "base64" ? `${bytes(message.payload_bytes)} that are no text` : message.payload.slice(0, 160) || "(no body)"}</span>
                  </button>
                </li>
              ))}
            </ul>
            <div class="pager">
              {after && <button onClick={() => setAfter("")}>From the next one on</button>}
              {data.next !== null && <button onClick={() => setAfter(data.next)}>Further on</button>}
            </div>
          </div>
          {shown && <section class="panel" aria-label="a message"><Message key={shown.id} message={withoutDelay(shown)} due={`${dueAt(shown.due)}, ${dueIn(shown.due_in_ms)}`} /></section>}
        </div>
      )}
      {act && <ActDialog act={act} vhost={vhost} name={name} filter={filter} marked={[...marked]} onClose={() => setAct("")} onDone={() => (setMarked(new Set()), again())} />}
    </>
  );
}
