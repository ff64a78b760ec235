// What every screen is made of: signs, tables, fields, dialogs, notes. Text of others is only ever shown as text.
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ask, findNames, me, withQuery, useLive, usePolled } from "./api.js";
import { ago, count, visible } from "./format.js";
import { setQuery, useRoute } from "./route.js";

const SHAPES = {
  ok: "M8 2.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11Z",
  mild: "M8 2.2 14.4 13.4H1.6Z",
  bad: "M8 .8 15.2 8 8 15.2.8 8Z",
};
const ICONS = {
  search: "M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9Zm3.3 7.8 3.7 3.7",
  menu: "M2 4h12M2 8h12M2 12h12",
  sun: "M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6ZM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1",
  out: "M6 2.5H3v11h3M7 8h7M11 5l3 3-3 3",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  left: "M10 3 5 8l5 5",
  right: "M6 3l5 5-5 5",
};

export const Icon = ({ name }) => (
  <svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d={ICONS[name]} /></svg>
);

/** A state, told by its shape as well as by its colour. */
export const Sign = ({ kind, children }) => (
  <span class={`sign sign-${kind}`}>
    <svg viewBox="0 0 16 16" aria-hidden="true"><path d={SHAPES[kind] ?? SHAPES.ok} /></svg>
    {children}
  </span>
);

export const Tag = ({ children, title, tone = "" }) => <span class={`tag ${tone}`} title={title}>{children}</span>;

/** A pattern, or whatever else is to be read letter by letter. */
export const Code = ({ children, empty = "–" }) => <code title={children}>{children || empty}</code>;

/** A name that a client chose: whatever its direction or length, it stays in its place. */
export const Name = ({ children, empty = "(no name)" }) =>
  children ? <bdi class="name" title={children}>{visible(children)}</bdi> : <span class="quiet">{empty}</span>;

export const Panel = ({ title, actions, children, wide }) => (
  <section class={`panel ${wide ? "wide" : ""}`}>
    {title && <header><h2>{title}</h2><div class="actions">{actions}</div></header>}
    {children}
  </section>
);

export const Heading = ({ title, above, children, sub }) => (
  <div class="heading">
    <div class={`heading-words ${typeof sub === "string" ? "with-sentence" : ""}`}>
      {above && <p class="above">{above}</p>}
      <h1>{title}</h1>
      {sub && <div class="sub">{sub}</div>}
    </div>
    <div class="actions">{children}</div>
  </div>
);

/** Said where there is nothing else; `isPage`, where that is all of a screen. */
export const Empty = ({ title, children, isPage }) => (
  <div class="empty">{isPage ? <h1 class="empty-title">{title}</h1> : <p class="empty-title">{title}</p>}{children && <div>{children}</div>}</div>
);

export const Failed = ({ error }) => <div class="failed" role="alert"><Sign kind="bad">{error}</Sign></div>;

/** A figure with its label, as on the overview. */
export const Figure = ({ label, value, unit, sub, tone = "" }) => (
  <div class={`figure ${tone}`}>
    <dt>{label}</dt>
    <dd><span class="value">{value}</span>{unit && <span class="unit">{unit}</span>}</dd>
    {sub && <dd class="figure-sub">{sub}</dd>}
  </div>
);

/** How a number was, small: a line without axes. */
export function Spark({ values, label }) {
  if (!values || values.length < 2 || !values.some(Boolean)) return <span class="spark" />;
  const highest = Math.max(...values, 1);
  const points = values.map((value, n) => `${((n / (values.length - 1)) * 62 + 1).toFixed(1)},${(17 - (value / highest) * 14).toFixed(1)}`);
  return (
    <svg class="spark" viewBox="0 0 64 20" role="img" aria-label={label ?? "how it was"}>
      <polyline points={points.join(" ")} />
    </svg>
  );
}

/** One of a few ways to see the same: `options` are [value, label]. */
export const Switch = ({ label, value, options, onValue }) => (
  <div class="switch" role="group" aria-label={label}>
    {options.map(([one, words]) => <button type="button" aria-pressed={one === value} onClick={() => onValue(one)}>{words}</button>)}
  </div>
);

/** Lines over one axis, which is so many seconds long and ends now. `series`: [{name, values, tone}], the oldest value first.
 *
 * What a line was at a moment is told where somebody points. */
export function Chart({ series, unit, seconds }) {
  const [pointed, setPointed] = useState(null);
  const width = 600;
  const height = 150;
  const longest = Math.max(...series.map((one) => one.values.length), 2);
  const highest = niceMax(Math.max(...series.flatMap((one) => one.values), 0));
  const pointsOf = (values) => values.map((value, n) => (value === null ? null : `${x(n).toFixed(1)},${y(value).toFixed(1)}`)).filter(Boolean).join(" ");
  const x = (n) => 2 + (n / (longest - 1)) * (width - 4);
  const y = (value) => 8 + (1 - value / highest) * (height - 14);
  const at = pointed === null ? longest - 1 : Math.min(pointed, longest - 1);
  const valueOf = (one) => (one.values[at] === null ? "–" : `${count(Math.round(one.values[at] ?? 0))}${unit}`);
  const isBlank = !series.some((one) => one.values.filter((value) => value !== null).length > 1);
  const follow = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    setPointed(Math.max(0, Math.round(((event.clientX - box.left) / box.width) * (longest - 1))));
  };
  return (
    <figure class="chart">
      <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={series.map((one) => `${one.name} ${count(Math.round(one.values.at(-1) ?? 0))} ${unit}`).join(", ")} onPointerMove={follow} onPointerLeave={() => setPointed(null)}>
        {[0, 0.5, 1].map((part) => <line class="grid" x1="0" x2={width} y1={y(part * highest)} y2={y(part * highest)} />)}
        {series.map((one) => (
          <polyline class={`line ${one.tone}`} points={pointsOf(one.values)} />
        ))}
        {pointed !== null && <line class="pointed" x1={x(at)} x2={x(at)} y1="0" y2={height} />}
      </svg>
      <span class="chart-max">{count(highest)}{unit}</span>
      {isBlank && <p class="chart-blank"><span>Too little is known of this time yet.</span></p>}
      <div class="chart-times"><span>{ago(seconds)}</span>{pointed !== null && at < longest - 1 && <b>{ago((1 - at / (longest - 1)) * seconds)}</b>}<span>now</span></div>
      <figcaption>
        {series.map((one) => <span class={`key ${one.tone}`}><i />{one.name} <b>{valueOf(one)}</b></span>)}
      </figcaption>
    </figure>
  );
}

function niceMax(value) {
  if (value <= 5) return 5;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value);
}

/** Parts of one screen, each with its address: `tabs` are [key, label, address]. On a small screen the one that is shown is in sight. */
export function Tabs({ label, value, tabs }) {
  const strip = useRef(null);
  useEffect(() => {
    const current = strip.current.querySelector("[aria-current]");
    if (current) strip.current.scrollLeft = current.offsetLeft - (strip.current.clientWidth - current.offsetWidth) / 2;
  }, [value]);
  return <nav class="tabs" aria-label={label} ref={strip}>{tabs.map(([key, words, address]) => <a href={address} aria-current={key === value ? "page" : undefined}>{words}</a>)}</nav>;
}

// --- tables

const classOf = (column) => `${column.number ? "number" : ""} ${column.narrow ? "" : "wide-only"} ${column.tone ?? ""}`;

/** A table. `columns`: [{label, about, show(row), number, sort, narrow, tone}]; those that are not `narrow` go on a small screen.
 * Where there is no `label` to be seen, `about` is read out. */
export function Table({ columns, rows, empty, sort, reverse, onSort, rowKey, label, tone = "" }) {
  if (rows && !rows.length) return empty ?? <Empty title="There is nothing here." />;
  return (
    <div class={`table-wrap ${tone}`} tabIndex="0" role="region" aria-label={label}>
      <table>
        <thead>
          <tr>
            {columns.map((column) => {
              const isSorted = sort && column.sort === sort;
              return (
                <th class={classOf(column)} scope="col" aria-sort={isSorted ? (reverse ? "descending" : "ascending") : undefined}>
                  {column.sort && onSort
                    ? <button class="sorter" onClick={() => onSort(column.sort, isSorted ? !reverse : Boolean(column.number))}>{column.label}<span aria-hidden="true">{isSorted ? (reverse ? " ↓" : " ↑") : ""}</span></button>
                    : column.label || <span class="unseen">{column.about ?? "actions"}</span>}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {(rows ?? [null, null, null]).map((row, n) => (
            <tr key={row ? (rowKey ? rowKey(row) : n) : n} class={row ? "" : "loading"}>
              {columns.map((column) => (
                <td class={classOf(column)} data-label={column.label}>{row ? column.show(row) : <span class="bone" />}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** A list of the API in pages, sorted and searched by the broker; all of that stands in the address. */
export function Paged({ base, columns, empty, query = {}, label, search = "Find by name", size = 50, children, rowKey, order = {} }) {
  const { query: given } = useRoute();
  const asked = given.sort ? given : { ...given, ...order };
  const page = Number(asked.page) || 1;
  const target = withQuery(base, { page, page_size: size, name: asked.name, sort: asked.sort, sort_reverse: asked.reverse, ...query });
  const { data, error } = useLive(target);
  useEffect(() => {
    if (error && page > 1) setQuery({ page: "" });
  }, [error, page]);
  if (error && page === 1) return <Failed error={error} />;
  return (
    <>
      <div class="filters">
        <Search value={asked.name} onValue={(name) => setQuery({ name, page: "" })} label={search} />
        {children}
        <span class="total" aria-live="polite">{data ? (asked.name ? `${count(data.filtered_count)} of ${count(data.total_count)}` : count(data.total_count)) : ""}</span>
      </div>
      <Table
        columns={columns} rows={data?.items} label={label} rowKey={rowKey} sort={asked.sort} reverse={Boolean(asked.reverse)}
        onSort={(sort, reverse) => setQuery({ sort, reverse: reverse ? "true" : "", page: "" })}
        empty={asked.name ? <Empty title={`No name contains “${asked.name}”.`}><button onClick={() => setQuery({ name: "" })}>Show all</button></Empty> : empty}
      />
      {data && data.page_count > 1 && (
        <nav class="pager" aria-label="pages">
          <button disabled={page <= 1} onClick={() => setQuery({ page: page - 1 })} aria-label="the page before"><Icon name="left" /></button>
          <span>page {page} of {data.page_count}</span>
          <button disabled={page >= data.page_count} onClick={() => setQuery({ page: page + 1 })} aria-label="the next page"><Icon name="right" /></button>
        </nav>
      )}
    </>
  );
}

export function Search({ value = "", onValue, label }) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  useEffect(() => setText(value), [value]);
  const typed = (event) => {
    setText(event.target.value);
    clearTimeout(timer.current);
    const wanted = event.target.value;
    timer.current = setTimeout(() => onValue(wanted), 180);
  };
  return (
    <label class="search">
      <Icon name="search" />
      <input type="search" data-search value={text} onInput={typed} placeholder={label} aria-label={label} autocomplete="off" spellcheck={false} />
      <kbd aria-hidden="true">/</kbd>
    </label>
  );
}

export const Choice = ({ label, value, options, onValue }) => (
  <label class="choice"><span>{label}</span>
    <select value={value ?? ""} onChange={(event) => onValue(event.target.value)}>
      {options.map((option) => {
        const [key, words] = Array.isArray(option) ? option : [option, option];
        return <option value={key}>{words}</option>;
      })}
    </select>
  </label>
);

/** A field of a form. What is in it is the form's: it gets a `defaultValue`, because a `value` would be set again, over what
 * somebody types, whenever the screen behind it is drawn with new numbers. */
export const Field = ({ label, hint, children, wide }) => (
  <label class={`field ${wide ? "wide" : ""}`}><span class="label">{label}</span>{children}{hint && <span class="hint">{hint}</span>}</label>
);

/** A box to tick; without `onValue` it is the form's, and `checked` is how it is at first. */
export const Check = ({ label, checked, onValue, name }) => (
  <label class="check"><input type="checkbox" name={name} {...(onValue ? { checked, onChange: (event) => onValue(event.target.checked) } : { defaultChecked: checked })} />{label}</label>
);

export const formOf = (event) => {
  event.preventDefault();
  const data = new FormData(event.currentTarget);
  return Object.fromEntries(data);
};

/** A choice in a form, which is the form's: `options` are names or [value, label], and `initial` is chosen at first. */
export const Select = ({ options, initial, ...others }) => (
  <select {...others}>
    {options.map((option) => {
      const [key, words] = Array.isArray(option) ? option : [option, option];
      return <option value={key} selected={key === initial}>{words}</option>;
    })}
  </select>
);

const OFFERED = 10;

/** A field for the name of a queue or an exchange, which offers those that there are. `noun`: queues or exchanges. */
export function NameInput({ noun, vhost, ...others }) {
  const id = useId();
  const [text, setText] = useState(null); // nothing is asked for before somebody comes to the field
  const [names, setNames] = useState([]);
  useEffect(() => {
    if (text === null) return undefined;
    let ended = false;
    const timer = setTimeout(async () => {
      const found = await findNames(noun, { name: text, vhost, limit: OFFERED });
      if (!ended) setNames([...new Set(found.map((one) => one.name).filter(Boolean))]);
    }, 120);
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [noun, vhost, text]);
  const look = (event) => setText(event.target.value);
  return (
    <>
      <input list={id} onFocus={look} onInput={look} autocomplete="off" spellcheck={false} {...others} />
      <datalist id={id}>{names.map((name) => <option value={name} />)}</datalist>
    </>
  );
}

/** Arguments as a person types them: JSON, or lines of `name = value`. Throws with words for the person. */
export function readTable(text) {
  const given = text.trim();
  if (!given) return {};
  if (given.startsWith("{")) {
    try {
      return JSON.parse(given);
    } catch {
      throw new Error("This is no JSON object. Lines such as x-max-length = 1000 will do as well.");
    }
  }
  const table = {};
  for (const line of given.split("\n").map((one) => one.trim()).filter(Boolean)) {
    const at = line.indexOf("=");
    if (at < 1) throw new Error(`“${line}” is no “name = value”.`);
    const value = line.slice(at + 1).trim();
    try {
      table[line.slice(0, at).trim()] = JSON.parse(value);
    } catch {
      table[line.slice(0, at).trim()] = value;
    }
  }
  return table;
}

export const Pairs = ({ pairs }) => (
  <dl class="pairs">
    {pairs.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([label, value]) => <div><dt>{label}</dt><dd>{value}</dd></div>)}
  </dl>
);

export const valueOf = (value) => (typeof value === "object" && value !== null ? JSON.stringify(value) : String(value));
export const Arguments = ({ table, empty = "none" }) => {
  const entries = Object.entries(table ?? {});
  return entries.length ? <ul class="arguments">{entries.map(([name, value]) => <li title={`${name} ${valueOf(value)}`}><bdi class="argument">{visible(name)}</bdi> <bdi class="argument-value">{visible(valueOf(value))}</bdi></li>)}</ul> : <span class="quiet">{empty}</span>;
};

// --- dialogs

/** Something in front of the page; Escape closes it. */
export function Dialog({ title, onClose, children, wide }) {
  const ref = useRef(null);
  useLayoutEffect(() => ref.current.showModal(), []); // at once: what is typed next is for it
  return (
    <dialog ref={ref} class={wide ? "wide" : ""} aria-label={title} onClose={onClose} onClick={(event) => event.target === ref.current && onClose()}>
      <div class="dialog-inside">
        <header><h2>{title}</h2><button class="plain" onClick={onClose} aria-label="close"><Icon name="close" /></button></header>
        {children}
      </div>
    </dialog>
  );
}

/** A form in a dialog; `onSubmit` gets its values and may throw. */
export function FormDialog({ title, onClose, onSubmit, submit = "Save", danger, children, confirmName, wide }) {
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [typed, setTyped] = useState("");
  const submitted = async (event) => {
    const values = formOf(event);
    setBusy(true);
    try {
      await onSubmit(values);
      onClose();
    } catch (problem) {
      setError(problem.message);
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose} wide={wide}>
      <form class="form" onSubmit={submitted}>
        {children}
        {confirmName !== undefined && <Field label={<>Type <b><bdi>{confirmName}</bdi></b> to go on</>} wide><input value={typed} onInput={(event) => setTyped(event.target.value)} autocomplete="off" /></Field>}
        {error && <Failed error={error} />}
        <footer><button type="button" onClick={onClose}>Cancel</button><button class={danger ? "danger" : "primary"} disabled={isBusy || (confirmName !== undefined && typed !== confirmName)}>{submit}</button></footer>
      </form>
    </Dialog>
  );
}

// --- notes, and what can still be undone

let notes = [];
let nextNote = 1;
const noteListeners = new Set();
const tell = () => noteListeners.forEach((listener) => listener([...notes]));
const dismiss = (number) => {
  notes = notes.filter((note) => note.number !== number);
  tell();
};

export function say(text, kind = "ok") {
  const note = { number: nextNote++, text, kind };
  notes = [...notes, note].slice(-5);
  tell();
  setTimeout(() => dismiss(note.number), kind === "bad" ? 9000 : 4000);
}

/** Do something; what is refused is said. Returns whether it was done. */
export async function attempt(work, done) {
  try {
    await work();
    if (done) say(done);
    return true;
  } catch (error) {
    say(error.message, "bad");
    return false;
  }
}

export const UNDO_S = 10;

/** Do something in ten seconds, unless somebody thinks better of it; closing the page undoes it as well. */
export function later(text, work, done) {
  const note = { number: nextNote++, text, kind: "mild", seconds: UNDO_S };
  const finish = () => {
    clearInterval(timer);
    dismiss(note.number);
    attempt(work, done);
  };
  note.undo = () => {
    clearInterval(timer);
    dismiss(note.number);
    say("Nothing was done.");
  };
  note.now = finish;
  const timer = setInterval(() => {
    note.seconds -= 1;
    if (note.seconds <= 0) finish();
    else tell();
  }, 1000);
  notes = [...notes, note];
  tell();
}

/** Undo what was begun last, where it can still be undone. */
export const undoLast = () => notes.filter((note) => note.undo).at(-1)?.undo();

export function Notes() {
  const [shown, set] = useState(notes);
  useEffect(() => {
    noteListeners.add(set);
    return () => noteListeners.delete(set);
  }, []);
  return (
    <div class="notes" role="status" aria-live="polite">
      {shown.map((note) => (
        <div class="note" key={note.number}>
          <Sign kind={note.kind}>{note.text}</Sign>
          {note.undo
            ? <span class="note-acts"><button class="primary" onClick={note.undo}>Undo <span class="seconds">{note.seconds}</span></button><button onClick={note.now}>Now</button></span>
            : <button class="plain" aria-label="close" onClick={() => dismiss(note.number)}><Icon name="close" /></button>}
        </div>
      ))}
    </div>
  );
}

export const put = (target, body) => ask("PUT", target, body);

/** The names of all virtual hosts that the user sees; the one that every broker begins with is the first. */
export function useVirtualHosts() {
  const { data } = usePolled("/api/vhosts?columns=name", 0);
  const names = data?.map((one) => one.name) ?? me()?.vhosts ?? [];
  return names.includes("/") || !names.length ? ["/", ...names.filter((name) => name !== "/")] : names;
}
