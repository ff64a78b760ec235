// The page: who is here, where they are, what they can press.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { findNames, findSession, isAdministrator, isMonitor, isPolicymaker, logIn, logOut, me, onLoggedOut, useOnline } from "./api.js";
import { Dialog, Empty, Failed, Field, formOf, Icon, Name, Notes, Sign, undoLast } from "./parts.jsx";
import { go, to, useRoute } from "./route.js";
import { NAVIGATION, SCREENS } from "./screens.js";

// --- light and dark

const THEMES = ["auto", "light", "dark"];
const savedTheme = () => THEMES.find((theme) => theme === localStorage.getItem("theme")) ?? "auto";
function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
}

function ThemeSwitch() {
  const [theme, set] = useState(savedTheme());
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  return <button class="plain" onClick={() => (set(next), showTheme(next))} title={`Now ${theme}; press for ${next}`}><Icon name="sun" /><span class="theme-name">{theme}</span></button>;
}

// --- login

function Login({ onDone }) {
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submitted = async (event) => {
    const form = formOf(event);
    setBusy(true);
    try {
      onDone(await logIn(form.username, form.password));
    } catch (problem) {
      setError(problem.message === "Login failed" ? "That is no user and password of this broker." : problem.message === "Not management user" ? "This user may not see the page: it needs the tag management, monitoring, policymaker or administrator." : problem.message);
      setBusy(false);
    }
  };
  return (
    <main class="login">
      <form onSubmit={submitted}>
        <Logo />
        <h1>Log in</h1>
        <Field label="User"><input name="username" autocomplete="username" autofocus required spellcheck={false} autocapitalize="off" /></Field>
        <Field label="Password"><input name="password" type="password" autocomplete="current-password" /></Field>
        {error && <Failed error={error} />}
        <button class="primary" disabled={isBusy}>{isBusy ? "One moment" : "Log in"}</button>
      </form>
    </main>
  );
}

const Logo = () => (
  <svg class="logo" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" /><path d="M7 9h6l6 7h6M7 23h6l6-7" /><path d="m22 12 4 4-4 4" /></svg>
);

// --- keys

const may = (entry) => (entry.needs === "administrator" ? isAdministrator() : entry.needs === "monitoring" ? isMonitor() : entry.needs === "policymaker" ? isPolicymaker() : true);
const allowed = () => NAVIGATION.map((group) => ({ ...group, entries: group.entries.filter(may) })).filter((group) => group.entries.length);

function useKeys({ openPalette, openHelp }) {
  useEffect(() => {
    let begun = 0;
    const pressed = (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        openPalette();
        return;
      }
      const isTyping = event.target.closest?.("input, textarea, select, [contenteditable]");
      if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (event.key === "/") {
        const search = document.querySelector("[data-search]");
        if (search) {
          event.preventDefault();
          search.focus();
          search.select();
        }
      } else if (event.key === "?") {
        openHelp();
      } else if (event.key === "z") {
        undoLast();
      } else if (event.key === "g") {
        begun = Date.now();
      } else if (Date.now() - begun < 1500) {
        begun = 0;
        const entry = allowed().flatMap((group) => group.entries).find((one) => one.key === event.key);
        if (entry) go(to(...entry.where));
      }
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  }, []);
}

function Help({ onClose }) {
  return (
    <Dialog title="Keys" onClose={onClose}>
      <dl class="keys">
        <div><dt><kbd>Ctrl</kbd> <kbd>K</kbd></dt><dd>go anywhere: screens, queues, exchanges</dd></div>
        <div><dt><kbd>/</kbd></dt><dd>search in what is shown</dd></div>
        <div><dt><kbd>z</kbd></dt><dd>undo what is about to be done</dd></div>
        <div><dt><kbd>?</kbd></dt><dd>these keys</dd></div>
        {allowed().flatMap((group) => group.entries).filter((entry) => entry.key).map((entry) => <div><dt><kbd>g</kbd> <kbd>{entry.key}</kbd></dt><dd>{entry.label}</dd></div>)}
      </dl>
    </Dialog>
  );
}

function Palette({ onClose }) {
  const [text, setText] = useState("");
  const [found, setFound] = useState([]);
  const [at, setAt] = useState(0);
  const wanted = text.trim().toLowerCase();
  const begins = (entry) => Number(entry.label.toLowerCase().startsWith(wanted)); // those come first
  useEffect(() => {
    if (!wanted) {
      setFound([]);
      return undefined;
    }
    let ended = false;
    const timer = setTimeout(async () => {
      const [queues, exchanges] = await Promise.all([
        findNames("queues", { name: wanted, limit: 8 }),
        findNames("exchanges", { name: wanted, limit: 6 }),
      ]);
      if (!ended)
        setFound([
          ...queues.map((one) => ({ label: one.name, kind: "queue", vhost: one.vhost, where: ["queues", one.vhost, one.name] })),
          ...exchanges.map((one) => ({ label: one.name || "(default)", kind: "exchange", vhost: one.vhost, where: ["exchanges", one.vhost, one.name || "amq.default"] })),
        ].sort((a, b) => begins(b) - begins(a)));
    }, 120);
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [wanted]);
  const screens = allowed().flatMap((group) => group.entries).filter((entry) => entry.label.toLowerCase().includes(wanted)).map((entry) => ({ ...entry, kind: "screen" }));
  const all = [...screens, ...found];
  const chosen = Math.min(at, all.length - 1);
  const take = (entry) => {
    onClose();
    go(to(...entry.where));
  };
  const pressed = (event) => {
    if (event.key === "ArrowDown") setAt(Math.min(chosen + 1, all.length - 1));
    else if (event.key === "ArrowUp") setAt(Math.max(chosen - 1, 0));
    else if (event.key === "Enter" && all[chosen]) take(all[chosen]);
    else return;
    event.preventDefault();
  };
  const list = useRef(null);
  useEffect(() => list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" }), [chosen]);
  return (
    <Dialog title="Go to" onClose={onClose}>
      <div class="palette">
        <label class="search"><Icon name="search" />
          <input autofocus role="combobox" aria-expanded="true" aria-controls="palette-list" aria-activedescendant={all[chosen] ? `palette-${chosen}` : undefined} aria-label="a screen, a queue or an exchange" placeholder="A screen, a queue or an exchange" value={text} onInput={(event) => (setText(event.target.value), setAt(0))} onKeyDown={pressed} autocomplete="off" spellcheck={false} />
        </label>
        <ul id="palette-list" role="listbox" aria-label="what was found" ref={list}>
          {all.map((entry, n) => (
            <li key={`${entry.kind} ${entry.vhost} ${entry.label}`} id={`palette-${n}`} role="option" aria-selected={n === chosen} onClick={() => take(entry)}>
              <Name>{entry.label}</Name><span class="quiet">{entry.kind}{entry.vhost && entry.vhost !== "/" ? <> in <Name>{entry.vhost}</Name></> : ""}</span>
            </li>
          ))}
        </ul>
        {!all.length && <p class="quiet palette-none">Nothing is named like that.</p>}
      </div>
    </Dialog>
  );
}

// --- the frame

function Shell() {
  const route = useRoute();
  const [front, setFront] = useState("");
  const [isOpen, setOpen] = useState(false);
  const online = useOnline();
  const closing = (what) => () => setFront((now) => (now === what ? "" : now)); // the other may be open by then
  useKeys({ openPalette: () => setFront("palette"), openHelp: () => setFront("help") });
  const [noun = "", ...names] = route.names;
  const known = SCREENS[noun];
  const isAllowed = NAVIGATION.flatMap((group) => group.entries).filter((entry) => (entry.where[0] ?? "") === noun).every(may);
  const Screen = known?.[Math.min(names.length, known.length - 1)];
  const address = route.names.join("\n");
  useEffect(() => {
    setOpen(false);
    scrollTo(0, 0);
    document.title = [...route.names].reverse().concat("amqp-broker").join(" · ");
  }, [address]);
  return (
    <div class={`shell ${isOpen ? "menu-open" : ""}`}>
      <a class="skip" href="#content" onClick={(event) => (event.preventDefault(), document.getElementById("content").focus())}>Skip to the content</a>
      <header class="bar">
        <button class="plain menu-button" aria-expanded={isOpen} aria-controls="menu" aria-label="menu" onClick={() => setOpen(!isOpen)}><Icon name="menu" /></button>
        <a class="brand" href="#/" aria-label="amqp-broker, overview"><Logo /><span>amqp-broker</span></a>
        <button class="find" onClick={() => setFront("palette")}><Icon name="search" /><span>Go to</span><kbd aria-hidden="true">Ctrl K</kbd></button>
        <div class="bar-end">
          {!online && <Sign kind="bad">not connected</Sign>}
          <ThemeSwitch />
          <span class="user" title={me().tags.join(", ")}><Name>{me().name}</Name></span>
          <button class="plain" onClick={logOut} aria-label="log out" title="Log out"><Icon name="out" /></button>
        </div>
      </header>
      <nav class="menu" id="menu" aria-label="screens">
        {allowed().map((group) => (
          <div class="menu-group" key={group.label}>
            {group.label && <p>{group.label}</p>}
            {group.entries.map((entry) => <a href={to(...entry.where)} aria-current={(entry.where[0] ?? "") === noun ? "page" : undefined}>{entry.label}</a>)}
          </div>
        ))}
        <button class="plain keys-button" onClick={() => setFront("help")}>Keys <kbd>?</kbd></button>
      </nav>
      <main id="content" tabIndex="-1">
        {Screen && !isAllowed ? <Empty isPage title="Your user may not see this."><p>It needs another tag: ask an administrator.</p></Empty>
          : Screen ? <Screen key={address} names={names} /> : <Empty isPage title="There is no such screen."><a href="#/">Overview</a></Empty>}
      </main>
      {front === "palette" && <Palette onClose={closing("palette")} />}
      {front === "help" && <Help onClose={closing("help")} />}
      <Notes />
    </div>
  );
}

function Page() {
  const [user, setUser] = useState(undefined);
  const [error, setError] = useState("");
  useEffect(() => {
    findSession().then(setUser, (problem) => setError(problem.message));
    return onLoggedOut(() => setUser(null));
  }, []);
  if (error) return <main class="login"><Failed error={error} /></main>;
  if (user === undefined) return null;
  return user ? <Shell key={user.name} /> : <Login onDone={setUser} />;
}

showTheme(savedTheme());
render(<Page />, document.getElementById("page"));
