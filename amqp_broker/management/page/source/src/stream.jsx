// What is in a stream: its entries from an offset or a time on, which nobody takes out by looking.
import { useEffect, useState } from "preact/hooks";
import { path, usePolled, withQuery } from "./api.js";
import { bytes, count, moment, plural, time } from "./format.js";
import { Empty, Failed, Field, formOf, Search } from "./parts.jsx";
import { filterOf, Message } from "./messages.jsx";
import { setQuery, useRoute } from "./route.js";

const SIZE = 50;
const TIMES = [["5", "5 min ago"], ["60", "an hour ago"], ["1440", "a day ago"]];

/** A time as an input of the browser has it: of here, without a zone. */
const inputTime = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
/** Of today the time alone. */
const shortMoment = (ms) => (new Date(ms).toDateString() === new Date().toDateString() ? time(ms) : moment(ms));
const cameAt = (entry) => (entry.age_ms === null ? null : Date.now() - entry.age_ms);

/** Where in the stream one is: a line from the oldest entry to the newest, to be dragged along. */
function Where({ first, end, at, shown, onGo }) {
  const [dragged, setDragged] = useState(null);
  useEffect(() => setDragged(null), [at]);
  const last = Math.max(first, end - 1);
  return (
    <div class="stream-where">
      <span class="quiet">{count(first)}</span>
      <input type="range" min={first} max={last} value={dragged ?? Math.min(at, last)} aria-label="offset" aria-valuetext={`offset ${dragged ?? at} of ${first} to ${last}`} disabled={last === first}
        onInput={(event) => setDragged(Number(event.target.value))} onChange={(event) => onGo({ offset: event.target.value, since: "" })} />
      <span class="quiet">{count(last)}</span>
      <b aria-live="polite">{dragged !== null ? `from ${dragged.toLocaleString("en")}` : shown.length ? `${shown[0].offset.toLocaleString("en")} to ${shown.at(-1).offset.toLocaleString("en")}` : "nothing"}</b>
    </div>
  );
}

export function Entries({ vhost, name, first, end }) {
  const { query } = useRoute();
  const [chosen, setChosen] = useState(null);
  const [latest] = useState(Math.max(first, end - SIZE)); // what is newest when the screen opens
  const hasPlace = query.offset !== undefined || query.since !== undefined;
  const offset = Number(hasPlace ? query.offset || 0 : latest);
  const base = `/api/x${path("queues", vhost, name, "messages").slice(4)}`;
  const { data, error, again } = usePolled(withQuery(base, { offset: offset || "", since_ms: query.since, limit: SIZE, state: "ready", ...filterOf(query.find ?? "") }), 0);
  const entries = data?.messages ?? [];
  const shown = entries.find((one) => one.id === chosen?.id && one.offset === chosen?.offset) ?? entries[0];
  const jump = (changes) => setQuery({ offset: "", since: "", ...changes });
  const newest = () => jump({ offset: String(Math.max(first, end - SIZE)) });
  if (!data && !error) return <span class="bone" />;
  return (
    <>
      <form class="filters stream-go" key={`${query.offset} ${query.since}`} onSubmit={(event) => {
        const form = formOf(event);
        const when = form.time && Date.parse(form.time);
        if (when && String(when) !== query.since) jump({ since: String(when) });
        else if (form.offset !== "") jump({ offset: form.offset });
      }}>
        <button type="button" onClick={() => jump({ offset: String(first) })} disabled={data?.offset === first}>Oldest</button>
        <button type="button" onClick={newest}>Newest</button>
        <span class="joined"><input name="offset" type="number" min={first} max={end} placeholder="offset" aria-label="offset to begin with" defaultValue={query.since ? "" : query.offset ?? ""} /></span>
        <span class="joined"><input name="time" type="datetime-local" step="1" aria-label="time to begin with" defaultValue={query.since ? inputTime(Number(query.since)) : ""} /></span>
        <button>Go there</button>
        <span class="ago">{TIMES.map(([minutes, words]) => <button type="button" class="link" onClick={() => jump({ since: String(Date.now() - minutes * 60_000) })}>{words}</button>)}</span>
      </form>
      <div class="filters">
        <Search value={query.find} onValue={(find) => setQuery({ find })} label="Text, header.a:1, json.b:2" />
        <button onClick={again}>Look again</button>
        <span class="total">{data && query.find ? `${plural(data.looked_at, "entry", "entries")} looked at` : ""}</span>
      </div>
      {data && end > first && <Where first={first} end={end} at={data.offset} shown={entries} onGo={jump} />}
      {error && <Failed error={error} />}
      {data && !entries.length && (end === first
        ? <Empty title="Nothing is in the stream."><p>What is published to it stays here and is read as often as anybody likes.</p></Empty>
        : <Empty title={query.find ? "No entry is like that." : "Nothing has come since then."}><p>{data.next_offset !== null ? `The search has come to offset ${count(data.next_offset)}.` : ""}</p>{data.next_offset !== null ? <button onClick={() => jump({ offset: String(data.next_offset) })}>Search on</button> : <button onClick={newest}>To the newest</button>}</Empty>)}
      {entries.length > 0 && (
        <div class="messages">
          <div>
            <ul class="message-list">
              {entries.map((entry) => (
                <li key={`${entry.offset}`} aria-current={entry === shown ? "true" : undefined}>
                  <button onClick={() => setChosen(entry)}>
                    <span class="line-1"><span><b>{entry.offset.toLocaleString("en")}</b> <bdi>{entry.routing_key}</bdi></span><span>{cameAt(entry) ? shortMoment(cameAt(entry)) : ""}</span></span>
                    <span class="line-2 mono">{entry.payload_encoding === "base64" ? `${bytes(entry.payload_bytes)} that are no text` : entry.payload.slice(0, 160) || "(no body)"}</span>
                  </button>
                </li>
              ))}
            </ul>
            <div class="pager">
              {data.offset > first && <button onClick={() => jump({ offset: String(Math.max(first, data.offset - SIZE)) })}>Before</button>}
              {data.next_offset !== null && <button onClick={() => jump({ offset: String(data.next_offset) })}>Further on</button>}
            </div>
          </div>
          {shown && <section class="panel" aria-label="an entry"><Message key={shown.offset} message={{ ...shown, state: undefined, age_ms: null }} came={cameAt(shown)} /></section>}
        </div>
      )}
    </>
  );
}
