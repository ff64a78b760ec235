// Who may do what, what rules there are, and all of it as one file.
import { useEffect, useState } from "preact/hooks";
import { ask, isAdministrator, isPolicymaker, me, path, useLive, usePolled, withQuery } from "./api.js";
import { count, plural } from "./format.js";
import { Arguments, attempt, Check, Choice, Code, Empty, Failed, Field, FormDialog, formOf, Heading, later, Name, Pairs, Panel, put, readTable, say, Select, Sign, Table, Tabs, Tag, useVirtualHosts, valueOf } from "./parts.jsx";
import { go, setQuery, to, useRoute } from "./route.js";

const TAGS = { administrator: "everything", monitoring: "sees all virtual hosts and nodes", policymaker: "makes policies in its virtual hosts", management: "sees its virtual hosts" };

function UserDialog({ user, onClose, onDone }) {
  return (
    <FormDialog title={user ? `Change ${user.name}` : "Add a user"} submit={user ? "Save" : "Add user"} onClose={onClose} onSubmit={async (form) => {
      const tags = Object.keys(TAGS).filter((tag) => form[tag] === "on").concat((user?.tags ?? []).filter((tag) => !TAGS[tag]));
      const body = { tags: tags.join(",") };
      if (form.password) body.password = form.password;
      else if (user) Object.assign(body, { password_hash: user.password_hash, hashing_algorithm: user.hashing_algorithm });
      const name = user?.name ?? form.name;
      await put(path("users", name), body);
      if (!user) setTimeout(() => go(to("users", name)));
      onDone?.();
    }}>
      {!user && <Field label="Name"><input name="name" required autofocus autocomplete="off" spellcheck={false} /></Field>}
      <Field label="Password" hint={user ? "Left empty, it stays." : "Left empty: no login by password."}><input name="password" type="password" autocomplete="new-password" /></Field>
      <div class="field wide"><span class="label">Tags</span><div class="tag-checks">{Object.entries(TAGS).map(([tag, words]) => <label class="check"><input type="checkbox" name={tag} defaultChecked={user?.tags.includes(tag)} />{tag} <span class="quiet">{words}</span></label>)}</div></div>
    </FormDialog>
  );
}

export function Users() {
  const { data, error, again } = usePolled("/api/users");
  const [isAdding, setAdding] = useState(false);
  return (
    <>
      <Heading title="Users"><button class="primary" onClick={() => setAdding(true)}>Add a user</button></Heading>
      {error && <Failed error={error} />}
      <Table label="users" rows={data} columns={[
        { label: "User", narrow: true, show: (one) => <a href={to("users", one.name)}><Name>{one.name}</Name></a> },
        { label: "Tags", narrow: true, show: (one) => (one.tags.length ? one.tags.map((tag) => <Tag>{tag}</Tag>) : <span class="quiet">none: messages only</span>) },
        { label: "Limits", show: (one) => <Arguments table={one.limits} empty="" /> },
        { label: "Password", show: (one) => (one.password_hash ? "yes" : <span class="quiet">none</span>) },
      ]} />
      {isAdding && <UserDialog onClose={() => setAdding(false)} onDone={again} />}
    </>
  );
}

function PermissionDialog({ user, hosts, initial, onClose, onDone }) {
  return (
    <FormDialog title={`What ${user} may do`} submit="Allow" onClose={onClose} onSubmit={async (form) => {
      await put(path("permissions", form.vhost, user), { configure: form.configure, write: form.write, read: form.read });
      onDone();
    }}>
      <Field label="Virtual host" wide><Select name="vhost" options={hosts} initial={initial?.vhost} /></Field>
      <Field label="Configure" hint="declare, delete"><input name="configure" defaultValue={initial?.configure ?? ".*"} class="mono" /></Field>
      <Field label="Write" hint="publish, bind"><input name="write" defaultValue={initial?.write ?? ".*"} class="mono" /></Field>
      <Field label="Read" hint="consume, get, purge"><input name="read" defaultValue={initial?.read ?? ".*"} class="mono" /></Field>
      <p class="full quiet">Patterns of names. .* is everything, an empty pattern nothing.</p>
    </FormDialog>
  );
}

function TopicPermissionDialog({ user, hosts, initial, onClose, onDone }) {
  const [vhost, setHost] = useState(initial?.vhost ?? hosts[0]);
  const { data: exchanges } = usePolled(withQuery(path("exchanges", vhost), { columns: "name,type" }), 0);
  const topics = exchanges?.filter((one) => one.type === "topic") ?? [];
  return (
    <FormDialog title={`Which routing keys ${user} may use`} submit="Allow" onClose={onClose} onSubmit={async (form) => {
      await put(path("topic-permissions", vhost, user), { exchange: initial?.exchange ?? form.exchange, write: form.write, read: form.read });
      onDone();
    }}>
      <Field label="Virtual host"><select disabled={Boolean(initial)} value={vhost} onChange={(event) => setHost(event.target.value)}>{hosts.map((name) => <option>{name}</option>)}</select></Field>
      <Field label="Topic exchange"><input name="exchange" list="topic-exchanges" required disabled={Boolean(initial)} defaultValue={initial?.exchange} autocomplete="off" spellcheck={false} /><datalist id="topic-exchanges">{topics.map((one) => <option value={one.name} />)}</datalist></Field>
      <Field label="Write" hint="keys to publish with"><input name="write" defaultValue={initial?.write ?? ".*"} class="mono" /></Field>
      <Field label="Read" hint="keys to bind with"><input name="read" defaultValue={initial?.read ?? ".*"} class="mono" /></Field>
      <p class="full quiet">Patterns of routing keys, beside the permissions. Where an exchange is not named, every key will do.</p>
    </FormDialog>
  );
}

const LIMITS = { "max-connections": "Connections", "max-channels": "Channels", "max-queues": "Queues" };

export function LimitsOf({ base, limits, names, onDone }) {
  const submitted = async (event) => {
    const form = formOf(event);
    await attempt(async () => {
      for (const name of names) {
        const before = limits?.[name];
        if (form[name] === "" && before !== undefined) await ask("DELETE", `${base}/${name}`);
        else if (form[name] !== "" && Number(form[name]) !== before) await put(`${base}/${name}`, { value: Number(form[name]) });
      }
      onDone();
    }, "The limits are in force.");
  };
  return (
    <form class="form" onSubmit={submitted} key={JSON.stringify(limits)}>
      {names.map((name) => <Field label={LIMITS[name]}><input name={name} type="number" min="-1" defaultValue={limits?.[name]} placeholder="no limit" /></Field>)}
      <footer><button class="primary">Save limits</button></footer>
    </form>
  );
}

export function User({ names: [name] }) {
  const { data, error, again } = usePolled(path("users", name));
  const { data: permissions, again: againPermissions } = usePolled(path("users", name, "permissions"));
  const { data: topics, again: againTopics } = usePolled(path("users", name, "topic-permissions"));
  const hosts = useVirtualHosts();
  const [front, setFront] = useState(null);
  if (error) return <><Heading title={<Name>{name}</Name>} above={<a href={to("users")}>Users</a>} /><Empty title={error}><a href={to("users")}>All users</a></Empty></>;
  return (
    <>
      <Heading title={<Name>{name}</Name>} above={<a href={to("users")}>Users</a>} sub={data?.tags.map((tag) => <Tag>{tag}</Tag>)}>
        <button onClick={() => setFront("change")}>Password and tags</button>
        <button class="danger" onClick={() => setFront("delete")}>Delete</button>
      </Heading>
      <Panel title="Permissions" actions={<button onClick={() => setFront("permission")}>Allow</button>}>
        <Table label="permissions" rows={permissions} empty={<Empty title="This user may not do anything yet."><p>Allow it something in a virtual host.</p></Empty>} columns={[
          { label: "Virtual host", narrow: true, show: (one) => <button class="link" onClick={() => setFront(one)}><Name>{one.vhost}</Name></button> },
          { label: "Configure", narrow: true, show: (one) => <Code>{one.configure}</Code> },
          { label: "Write", narrow: true, show: (one) => <Code>{one.write}</Code> },
          { label: "Read", narrow: true, show: (one) => <Code>{one.read}</Code> },
          { label: "", number: true, show: (one) => <button class="link" onClick={() => later(`Taking away what ${name} may do in ${one.vhost}`, async () => (await ask("DELETE", path("permissions", one.vhost, name)), againPermissions()), "It may do nothing there.")}>Take away</button> },
        ]} />
      </Panel>
      <Panel title="Routing keys of topic exchanges" actions={<button onClick={() => setFront("topic")}>Restrict</button>}>
        {topics?.length ? <Table label="topic permissions" rows={topics} columns={[
          { label: "Exchange", narrow: true, show: (one) => <button class="link" onClick={() => setFront({ topic: one })}><Name>{one.exchange}</Name></button> },
          { label: "Virtual host", narrow: true, show: (one) => <Name>{one.vhost}</Name> },
          { label: "Write", narrow: true, show: (one) => <Code>{one.write}</Code> }, { label: "Read", narrow: true, show: (one) => <Code>{one.read}</Code> },
          { label: "", number: true, show: (one) => <button class="link" aria-label={`lift the restriction on ${one.exchange}`} onClick={() => later(`Lifting what restricts the keys of ${one.exchange}`, async () => (await ask("DELETE", path("topic-permissions", one.vhost, name, one.exchange)), againTopics()), "Every key will do there.")}>Lift</button> },
        ]} /> : <p class="quiet">Every key will do, as far as the permissions go.</p>}
      </Panel>
      <Panel title="Limits"><LimitsOf base={path("user-limits", name)} limits={data?.limits} names={["max-connections", "max-channels"]} onDone={again} /></Panel>
      {front === "change" && data && <UserDialog user={data} onClose={() => setFront(null)} onDone={again} />}
      {(front === "topic" || front?.topic) && <TopicPermissionDialog user={name} hosts={hosts} initial={front?.topic} onClose={() => setFront(null)} onDone={againTopics} />}
      {(front === "permission" || front?.vhost) && <PermissionDialog user={name} hosts={hosts} initial={front?.vhost ? front : undefined} onClose={() => setFront(null)} onDone={againPermissions} />}
      {front === "delete" && <FormDialog title="Delete the user" submit="Delete user" danger confirmName={name} onClose={() => setFront(null)} onSubmit={async () => (await ask("DELETE", path("users", name)), setTimeout(() => go(to("users"))))}><p>Its connections are closed. This cannot be undone{me().name === name ? ", and it is you" : ""}.</p></FormDialog>}
    </>
  );
}

// --- virtual hosts

export function VirtualHosts() {
  const { data, error, again } = usePolled("/api/vhosts");
  const [isAdding, setAdding] = useState(false);
  return (
    <>
      <Heading title="Virtual hosts">{isAdministrator() && <button class="primary" onClick={() => setAdding(true)}>Add a virtual host</button>}</Heading>
      {error && <Failed error={error} />}
      <Table label="virtual hosts" rows={data} columns={[
        { label: "Name", narrow: true, show: (one) => <a href={to("vhosts", one.name)}><Name>{one.name}</Name></a> },
        { label: "Description", show: (one) => <Name empty="">{one.description}</Name> },
        { label: "Tags", show: (one) => one.tags?.map((tag) => <Tag>{tag}</Tag>) },
        { label: "Ready", number: true, narrow: true, show: (one) => count(one.messages_ready) },
        { label: "Unacked", number: true, show: (one) => count(one.messages_unacknowledged) },
      ]} />
      {isAdding && (
        <FormDialog title="Add a virtual host" submit="Add virtual host" onClose={() => setAdding(false)} onSubmit={async (form) => {
          await put(path("vhosts", form.name), { description: form.description, tags: form.tags, ...(form.type ? { default_queue_type: form.type } : {}) });
          again();
        }}>
          <Field label="Name"><input name="name" required autofocus autocomplete="off" spellcheck={false} /></Field>
          <Field label="Default type of queues"><select name="type"><option value="">classic</option><option>quorum</option><option>stream</option></select></Field>
          <Field label="Description"><input name="description" /></Field>
          <Field label="Tags" hint="with commas between"><input name="tags" /></Field>
        </FormDialog>
      )}
    </>
  );
}

export function VirtualHost({ names: [name] }) {
  const { data, error, again } = usePolled(path("vhosts", name));
  const { data: limits, again: againLimits } = usePolled(path("vhost-limits", name));
  const { data: permissions } = usePolled(isAdministrator() ? path("vhosts", name, "permissions") : null);
  const [front, setFront] = useState("");
  if (error) return <><Heading title={<Name>{name}</Name>} above={<a href={to("vhosts")}>Virtual hosts</a>} /><Empty title={error}><a href={to("vhosts")}>All virtual hosts</a></Empty></>;
  return (
    <>
      <Heading title={<Name>{name}</Name>} above={<a href={to("vhosts")}>Virtual hosts</a>} sub={data?.description}>
        {isAdministrator() && <>
          <button onClick={() => attempt(() => put(path("vhosts", name), { description: data.description, tags: data.tags, tracing: !data.tracing }).then(again), data?.tracing ? "The firehose is off." : "The firehose is on: all is copied to amq.rabbitmq.trace.")}>{data?.tracing ? "Stop the firehose" : "Start the firehose"}</button>
          <button class="danger" onClick={() => setFront("delete")}>Delete</button>
        </>}
      </Heading>
      {data && <Panel title="What it is"><Pairs pairs={[["Ready", count(data.messages_ready)], ["Unacknowledged", count(data.messages_unacknowledged)], ["Default type of queues", data.default_queue_type === "undefined" ? "classic" : data.default_queue_type], ["Firehose", data.tracing ? <Sign kind="mild">on</Sign> : "off"], ["Tags", data.tags?.join(", ")]]} /></Panel>}
      {permissions && <Panel title="Who may do something here"><Table label="permissions" rows={permissions} empty={<Empty title="Nobody may do anything here." />} columns={[{ label: "User", narrow: true, show: (one) => <a href={to("users", one.user)}><Name>{one.user}</Name></a> }, { label: "Configure", narrow: true, show: (one) => <Code>{one.configure}</Code> }, { label: "Write", narrow: true, show: (one) => <Code>{one.write}</Code> }, { label: "Read", narrow: true, show: (one) => <Code>{one.read}</Code> }]} /></Panel>}
      {isAdministrator() && <Panel title="Limits"><LimitsOf base={path("vhost-limits", name)} limits={limits?.[0]?.value} names={["max-connections", "max-queues"]} onDone={againLimits} /></Panel>}
      {front === "delete" && <FormDialog title="Delete the virtual host" submit="Delete virtual host" danger confirmName={name} onClose={() => setFront("")} onSubmit={async () => (await ask("DELETE", path("vhosts", name)), setTimeout(() => go(to("vhosts"))))}><p>With it go its exchanges, its queues and all their messages. This cannot be undone.</p></FormDialog>}
    </>
  );
}

// --- policies

const KEYS = ["max-length", "max-length-bytes", "message-ttl", "expires", "overflow", "dead-letter-exchange", "dead-letter-routing-key", "delivery-limit", "max-age", "replay-ms", "x-message-deduplication", "alternate-exchange", "delayed-message", "federation-upstream"];

/** What a policy would match, before it is saved. */
function Matches({ vhost, pattern, applies }) {
  const [found, setFound] = useState(null);
  useEffect(() => {
    let ended = false;
    const timer = setTimeout(async () => {
      const query = { page: 1, page_size: 6, name: pattern, use_regex: true, columns: "name" };
      const look = (noun) => ask("GET", withQuery(path(noun, vhost), query)).then((list) => ({ noun, ...list }));
      try {
        const nouns = [applies !== "exchanges" && "queues", (applies === "exchanges" || applies === "all") && "exchanges"].filter(Boolean);
        const lists = await Promise.all(nouns.map(look));
        if (!ended) setFound({ lists });
      } catch (error) {
        if (!ended) setFound({ error: "That is no pattern." });
      }
    }, 200);
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [vhost, pattern, applies]);
  if (!found) return <div class="matches wide"><span class="bone" /></div>;
  if (found.error) return <div class="matches wide"><Sign kind="bad">{found.error}</Sign></div>;
  return (
    <div class="matches wide" aria-live="polite">
      {found.lists.map((list) => (
        <div><Sign kind={list.filtered_count ? "ok" : "mild"}>matches {count(list.filtered_count)} of {plural(list.total_count, list.noun.slice(0, -1))}</Sign>
          <span class="quiet"> {list.items.map((one, n) => <>{n ? ", " : ""}<Name empty="(default)">{one.name}</Name></>)}{list.filtered_count > list.items.length ? " …" : ""}</span></div>
      ))}
    </div>
  );
}

function PolicyDialog({ kind, policy, hosts, onClose, onDone }) {
  const [form, setForm] = useState({ vhost: policy?.vhost ?? hosts[0], pattern: policy?.pattern ?? "", applies: policy?.["apply-to"] ?? (kind === "policies" ? "all" : "queues") });
  const [text, setText] = useState(Object.entries(policy?.definition ?? {}).map(([name, value]) => `${name} = ${valueOf(value)}`).join("\n"));
  return (
    <FormDialog title={policy ? `Change ${policy.name}` : kind === "policies" ? "Add a policy" : "Add an operator policy"} submit="Save" onClose={onClose} onSubmit={async (values) => {
      await put(path(kind, form.vhost, policy?.name ?? values.name), { pattern: form.pattern, "apply-to": form.applies, priority: Number(values.priority || 0), definition: readTable(text) });
      onDone();
      say("The policy is in force.");
    }}>
      {!policy && <Field label="Name"><input name="name" required autofocus autocomplete="off" spellcheck={false} /></Field>}
      <Field label="Virtual host"><select disabled={Boolean(policy)} value={form.vhost} onChange={(event) => setForm({ ...form, vhost: event.target.value })}>{hosts.map((name) => <option>{name}</option>)}</select></Field>
      <Field label="Pattern of names" hint="^orders\. is all that begins with “orders.”"><input class="mono" value={form.pattern} onInput={(event) => setForm({ ...form, pattern: event.target.value })} autocomplete="off" spellcheck={false} /></Field>
      <Field label="Applies to"><select value={form.applies} onChange={(event) => setForm({ ...form, applies: event.target.value })}>{(kind === "policies" ? ["all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges"] : ["queues", "classic_queues", "quorum_queues", "streams"]).map((one) => <option>{one}</option>)}</select></Field>
      <Field label="Priority" hint="The highest that matches counts alone."><input name="priority" type="number" defaultValue={policy?.priority ?? 0} /></Field>
      <Matches vhost={form.vhost} pattern={form.pattern} applies={form.applies} />
      <Field wide label="Definition" hint="One a line: max-length = 1000"><textarea rows={4} required value={text} onInput={(event) => setText(event.target.value)} spellcheck={false} /></Field>
      <p class="full suggestions">{KEYS.filter((key) => !text.includes(key)).map((key) => <button type="button" class="tag" onClick={() => setText(`${text}${text && !text.endsWith("\n") ? "\n" : ""}${key} = `)}>{key}</button>)}</p>
    </FormDialog>
  );
}

export function Policies() {
  const hosts = useVirtualHosts();
  const { query } = useRoute();
  const kind = query.kind === "operator" ? "operator-policies" : "policies";
  const { data, error, again } = usePolled(`/api/${kind}`);
  const [front, setFront] = useState(null);
  const may = kind === "policies" ? isPolicymaker() : isAdministrator();
  const ties = new Set();
  for (const one of data ?? []) for (const other of data) if (one !== other && one.vhost === other.vhost && one.priority === other.priority && one.pattern === other.pattern) ties.add(one.name);
  return (
    <>
      <Heading title="Policies">{may && <button class="primary" onClick={() => setFront("new")}>Add a policy</button>}</Heading>
      <Tabs label="kinds of policies" value={kind} tabs={[["policies", "Policies", "#/policies"], ["operator-policies", "Operator policies", "#/policies?kind=operator"]]} />
      {error && <Failed error={error} />}
      <Table label="policies" rows={data} rowKey={(one) => `${one.vhost} ${one.name}`} empty={<Empty title="There is no policy."><p>A policy sets limits, expiry or dead-lettering for all queues or exchanges whose names match a pattern, also those that are there already.</p></Empty>} columns={[
        { label: "Policy", narrow: true, show: (one) => <>{may ? <button class="link" onClick={() => setFront(one)}><Name>{one.name}</Name></button> : <Name>{one.name}</Name>} {ties.has(one.name) && <Tag tone="mild" title="Another one has this pattern and priority: the name that sorts first counts.">tie</Tag>}</> },
        { label: "Virtual host", show: (one) => <Name>{one.vhost}</Name> },
        { label: "Pattern", narrow: true, show: (one) => <Code empty="(everything)">{one.pattern}</Code> },
        { label: "Applies to", show: (one) => one["apply-to"] },
        { label: "Priority", number: true, show: (one) => one.priority },
        { label: "Definition", show: (one) => <Arguments table={one.definition} /> },
        { label: "", number: true, show: (one) => may && <button class="link" onClick={() => later(`Deleting policy ${one.name}`, async () => (await ask("DELETE", path(kind, one.vhost, one.name)), again()), "The policy is gone.")}>Delete</button> },
      ]} />
      {front && <PolicyDialog kind={kind} policy={front === "new" ? undefined : front} hosts={hosts} onClose={() => setFront(null)} onDone={again} />}
    </>
  );
}

// --- definitions

export function Definitions() {
  const hosts = useVirtualHosts();
  const [vhost, setHost] = useState("");
  const [file, setFile] = useState(null);
  const [error, setError] = useState("");
  const base = vhost ? path("definitions", vhost) : "/api/definitions";
  const chosen = async (event) => {
    setError("");
    setFile(null);
    const [given] = event.target.files;
    if (!given) return;
    try {
      const content = JSON.parse(await given.text());
      if (typeof content !== "object" || content === null || Array.isArray(content)) throw new Error();
      setFile({ name: given.name, content });
    } catch {
      setError("That is no file of definitions: it must be a JSON object.");
    }
  };
  const take = async () => {
    try {
      await ask("POST", base, file.content);
      say("All of it is in force.");
      setFile(null);
    } catch (problem) {
      setError(problem.message);
    }
  };
  return (
    <>
      <Heading title="Definitions" sub="Virtual hosts, users, permissions, policies, queues, exchanges and bindings, in RabbitMQ's JSON. No messages." />
      <div class="filters"><Choice label="Of" value={vhost} options={[["", "the whole broker"], ...hosts.map((name) => [name, `virtual host ${name}`])]} onValue={setHost} /></div>
      <div class="two">
        <Panel title="Export"><p class="lead">A copy of all that is defined, to be kept or to be imported elsewhere.</p><a class="button" href={`${base}?download=definitions.json`} download="definitions.json">Download definitions.json</a></Panel>
        <Panel title="Import">
          <p class="lead">What is there already stays as it is. All of the file is taken, or nothing.</p>
          <Field label="File"><input type="file" accept=".json,application/json" onChange={chosen} /></Field>
          {file && <div class="import"><ul class="chips">{Object.entries(file.content).filter(([, list]) => Array.isArray(list) && list.length).map(([name, list]) => <li>{count(list.length)} {name.replaceAll("_", " ")}</li>)}</ul><button class="primary" onClick={take}>Import <bdi>{file.name}</bdi></button></div>}
          {error && <Failed error={error} />}
        </Panel>
      </div>
    </>
  );
}
