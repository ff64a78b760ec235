// Asks the broker's HTTP API, and watches parts of it: one stream of server-sent events for all that is on the screen.
import { useEffect, useRef, useState } from "preact/hooks";

let session = null;
const whenLoggedOut = new Set();

/** The path of an API object: each part is encoded, so a slash in a name stays in the name. */
export const path = (...parts) => "/api/" + parts.map((part) => encodeURIComponent(part)).join("/");

/** A path with a query; what is empty is left out. */
export function withQuery(base, query) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null && value !== false);
  return given.length ? `${base}?${new URLSearchParams(given)}` : base;
}

export class ApiError extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

const REFUSALS = /^(User not authorised|Access refused|Not (administrator|monitor) user)/;

const wordsOf = (status, body) => {
  const reason = body?.reason;
  if (status === 401 && REFUSALS.test(reason)) return `Your user may not see or do this: ${reason.replace(/\.$/, "")}.`;
  if (typeof reason === "string" && reason) return reason === "Not Found" ? "It is not there (any more)." : reason;
  if (reason) return JSON.stringify(reason);
  return status === 404 ? "It is not there (any more)." : `The broker answered with status ${status}.`;
};

/** Ask; answers with what the JSON means, null where there is no body. Throws ApiError. */
export async function ask(method, target, body, headers = {}) {
  let response;
  try {
    response = await fetch(target, {
      method,
      headers: {
        accept: "application/json",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(session && method !== "GET" ? { "x-csrf-token": session.csrf } : {}),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, "The broker cannot be reached.");
  }
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    value = null;
  }
  if (!response.ok) {
    if (response.status === 401 && isStranger(value) && target !== "/api/x/session") loggedOut();
    throw new ApiError(response.status, wordsOf(response.status, value));
  }
  return value;
}

/** Some queues or exchanges whose names have a text in them; none where that is refused. `noun`: queues or exchanges. */
export async function findNames(noun, { name, vhost, limit }) {
  const target = noun === "queues"
    ? withQuery("/api/x/queues", { name, vhost, limit })
    : withQuery(vhost ? path("exchanges", vhost) : "/api/exchanges", { name, page: 1, page_size: limit, columns: "name,vhost" });
  return (await ask("GET", target).catch(() => ({ items: [] }))).items;
}

// Who asks without a cookie is told nothing at all. All other refusals are for somebody who may not see or do that.
const STRANGERS = ["Login failed", "The session has ended"];
const isStranger = (value) => value === null || STRANGERS.includes(value.reason);

function loggedOut() {
  session = null;
  closeStream();
  for (const listener of whenLoggedOut) listener();
}

export const onLoggedOut = (listener) => {
  whenLoggedOut.add(listener);
  return () => whenLoggedOut.delete(listener);
};

export async function findSession() {
  session = await ask("GET", "/api/x/session");
  return session;
}

export async function logIn(username, password) {
  session = await ask("POST", "/api/x/session", { username, password });
  return session;
}

export async function logOut() {
  await ask("DELETE", "/api/x/session").catch(() => {});
  loggedOut();
}

export const me = () => session;
const has = (...tags) => session?.tags.some((tag) => tags.includes(tag)) ?? false;
export const isAdministrator = () => has("administrator");
export const isMonitor = () => has("administrator", "monitoring");
export const isPolicymaker = () => has("administrator", "policymaker");

// --- live

const watched = new Map(); // path -> {listeners, last}
let source = null;
let open = "";
let pending = 0;
let online = true;
const whenOnline = new Set();

function setOnline(value) {
  if (value === online) return;
  online = value;
  for (const listener of whenOnline) listener(value);
}

export function useOnline() {
  const [value, set] = useState(online);
  useEffect(() => {
    whenOnline.add(set);
    return () => whenOnline.delete(set);
  }, []);
  return value;
}

function closeStream() {
  source?.close();
  source = null;
  open = "";
}

function reopen() {
  pending = 0;
  const targets = [...watched.keys()].slice(0, 8);
  const key = targets.join("\n");
  if (key === open && source && source.readyState !== EventSource.CLOSED) return;
  closeStream();
  if (!targets.length || !session || document.hidden) return;
  open = key;
  source = new EventSource("/api/x/events?" + targets.map((target) => "watch=" + encodeURIComponent(target)).join("&"));
  source.onopen = () => setOnline(true);
  source.onmessage = (event) => {
    const { watch, status, body } = JSON.parse(event.data);
    tell(targets[watch], status === 200 ? { data: body } : { error: wordsOf(status, body), status });
  };
  source.addEventListener("ended", loggedOut); // in another tab, say
  source.onerror = () => {
    setOnline(false);
    const failed = source;
    setTimeout(async () => {
      if (source !== failed || failed.readyState !== EventSource.CLOSED) return;
      try {
        if (await findSession()) await lookOnce(targets);
        else loggedOut();
      } catch {
        // it cannot be reached: again, below
      }
      open = "";
      schedule(3000);
    }, 1500);
  };
}

function tell(target, value) {
  const entry = watched.get(target);
  if (!entry) return;
  entry.last = value;
  for (const listener of entry.listeners) listener(value);
}

/** Where no stream is to be had, because too many watch, the page asks now and then. */
async function lookOnce(targets) {
  await Promise.all(targets.map((target) => ask("GET", target).then((data) => tell(target, { data }), (error) => error.status && tell(target, { error: error.message, status: error.status }))));
}

// A tab that nobody sees watches nothing: it costs the broker nothing, and other tabs have the browser's few connections.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) closeStream();
  else schedule(0);
});

function schedule(delay = 30) {
  clearTimeout(pending);
  pending = setTimeout(reopen, delay);
}

/** What a path of the API answers, now and whenever it changes: {data, error}. Null watches nothing. */
export function useLive(target) {
  const [state, set] = useState({ target, value: target && watched.get(target)?.last });
  const latest = useRef(target);
  latest.current = target;
  useEffect(() => {
    if (!target) return undefined;
    let entry = watched.get(target);
    if (!entry) watched.set(target, (entry = { listeners: new Set(), last: undefined }));
    const listener = (value) => latest.current === target && set({ target, value });
    entry.listeners.add(listener);
    if (entry.last) listener(entry.last);
    schedule();
    return () => {
      entry.listeners.delete(listener);
      if (!entry.listeners.size) watched.delete(target);
      schedule();
    };
  }, [target]);
  return { ...(state.value ?? {}), isStale: state.target !== target };
}

/** The same asked again every few seconds, for what is large and changes slowly; `again` asks at once. */
export function usePolled(target, every_ms = 5000) {
  const [state, set] = useState({});
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (!target) return undefined;
    let ended = false;
    let timer = 0;
    const look = async () => {
      try {
        const data = await ask("GET", target);
        if (!ended) set({ data });
      } catch (error) {
        if (!ended) set((before) => ({ data: error.status ? undefined : before.data, error: error.message, status: error.status }));
      }
      if (!ended && every_ms) timer = setTimeout(look, every_ms);
    };
    look();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [target, round, every_ms]);
  return { ...(target ? state : {}), again: () => setRound((number) => number + 1) };
}
