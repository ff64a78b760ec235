// What carries messages between queues and brokers: shovels, and federation with its upstreams and links.
import { useState } from "preact/hooks";
import { ask, isPolicymaker, path, useLive, usePolled } from "./api.js";
import { count, plural } from "./format.js";
import { attempt, Empty, Failed, Field, FormDialog, Heading, Icon, later, Name, Panel, put, readTable, say, Sign, Table, Tag, useVirtualHosts, valueOf } from "./parts.jsx";
import { to } from "./route.js";

const SIGNS = { running: "ok", starting: "mild", paused: "idle", terminated: "bad", error: "bad" };
const State = ({ state, reason }) => (
  <>
    <Sign kind={SIGNS[state] ?? "idle"}>{state}</Sign>
    {reason && <span class="why quiet" title={reason}>{reason}</span>}
  </>
);

/** A parameter with the flag `paused` set or taken away; what else is in it stays. */
async function setPaused(component, vhost, name, isPaused) {
  const target = path("parameters", component, vhost, name);
  const { value } = await ask("GET", target);
  await put(target, { value: { ...value, paused: isPaused } });
}

// --- shovels

const End = ({ one, end }) => {
  const kind = one[`${end}_queue`] ? "queue" : one[`${end}_exchange`] ? "exchange" : "";
  const address = one[`${end}_uri`];
  const isHere = address === "amqp://" || !address;
  return (
    <>
      {kind ? (isHere ? <a href={to(`${kind}s`, one.vhost, one[`${end}_${kind}`])}><Name>{one[`${end}_${kind}`]}</Name></a> : <Name>{one[`${end}_${kind}`]}</Name>) : <span class="quiet">each message's exchange</span>}
      <span class="quiet address">{isHere ? "here" : <Name>{address}</Name>}</span>
    </>
  );
};

/** Where a shovel takes from, or brings to. */
const EndFields = ({ end, label, hint }) => (
  <fieldset>
    <legend>{label}</legend>
    <Field label="Broker" hint="amqp:// is this one"><input name={`${end}-uri`} required defaultValue="amqp://" class="mono" autocomplete="off" spellcheck={false} /></Field>
    <div class="form">
      <Field label="As"><select name={`${end}-kind`}><option>queue</option><option>exchange</option></select></Field>
      <Field label="Name" hint={hint}><input name={`${end}-name`} required={end === "src"} autocomplete="off" spellcheck={false} /></Field>
    </div>
  </fieldset>
);

function AddShovel({ onClose, onDone }) {
  const hosts = useVirtualHosts();
  return (
    <FormDialog title="Add a shovel" submit="Add shovel" wide onClose={onClose} onSubmit={async (form) => {
      const value = { "src-uri": form["src-uri"], "dest-uri": form["dest-uri"], "ack-mode": form.mode, "src-delete-after": form.until };
      for (const end of ["src", "dest"]) if (form[`${end}-name`]) value[`${end}-${form[`${end}-kind`]}`] = form[`${end}-name`];
      await put(path("parameters", "shovel", form.vhost, form.name), { value });
      onDone();
    }}>
      <Field label="Name"><input name="name" required autofocus autocomplete="off" spellcheck={false} /></Field>
      <Field label="Virtual host"><select name="vhost">{hosts.map((name) => <option>{name}</option>)}</select></Field>
      <EndFields end="src" label="From" />
      <EndFields end="dest" label="To" hint="none: each message's own" />
      <Field label="Acknowledges"><select name="mode"><option value="on-confirm">on confirm: nothing is lost</option><option value="on-publish">on publish</option><option value="no-ack">not at all</option></select></Field>
      <Field label="Ends"><select name="until"><option value="never">never</option><option value="queue-length">after what is there now</option></select></Field>
    </FormDialog>
  );
}

export function Shovels() {
  const { data, error } = useLive("/api/shovels");
  const [isAdding, setAdding] = useState(false);
  const may = isPolicymaker();
  const add = may && <button class="primary" onClick={() => setAdding(true)}>Add a shovel</button>;
  return (
    <>
      <Heading title="Shovels" sub="Each carries messages from a queue or exchange to another, here or at another broker.">{data?.length > 0 && add}</Heading>
      {error && <Failed error={error} />}
      <Table tone="carried" label="shovels" rows={data} rowKey={(one) => `${one.vhost} ${one.name}`} empty={<Empty title="There is no shovel."><p>A shovel empties a queue into another one, or brings messages over from another broker while both are running.</p>{add}</Empty>} columns={[
        { label: "Shovel", narrow: true, show: (one) => <><Name>{one.name}</Name>{one.vhost !== "/" && <span class="quiet address"><Name>{one.vhost}</Name></span>}</> },
        { label: "State", narrow: true, show: (one) => <State {...one} /> },
        { label: "From where to where", show: (one) => <div class="ends"><div><End one={one} end="src" /></div><Icon name="right" /><div><End one={one} end="dest" /></div></div> },
        { label: "Carried", number: true, show: (one) => count(one.messages_carried) },
        { label: "", number: true, narrow: true, show: (one) => may && <span class="row-acts">
          <button class="link" onClick={() => attempt(() => setPaused("shovel", one.vhost, one.name, one.state !== "paused"))}>{one.state === "paused" ? "Resume" : "Pause"}</button>
          {one.state !== "paused" && <button class="link" onClick={() => attempt(() => ask("DELETE", path("shovels", "vhost", one.vhost, one.name, "restart")), "It connects anew.")}>Restart</button>}
          <button class="link" aria-label={`delete the shovel ${one.name}`} onClick={() => later(`Deleting shovel ${one.name}`, () => ask("DELETE", path("parameters", "shovel", one.vhost, one.name)), "The shovel is gone.")}>Delete</button>
        </span> },
      ]} />
      {isAdding && <AddShovel onClose={() => setAdding(false)} onDone={() => say("The shovel begins.")} />}
    </>
  );
}

// --- federation

const UPSTREAM = "federation-upstream";
/** An address without its password. */
const shownAddress = (uri) => String(uri).replace(/(:\/\/[^/@:]*):[^@/]*@/, "$1@");

function AddUpstream({ onClose, onDone }) {
  const hosts = useVirtualHosts();
  return (
    <FormDialog title="Add an upstream" submit="Add upstream" onClose={onClose} onSubmit={async (form) => {
      const value = { uri: form.uri, "ack-mode": form.mode, ...readTable(form.others) };
      await put(path("parameters", UPSTREAM, form.vhost, form.name), { value });
      onDone();
      say("Now a policy must say what is federated.");
    }}>
      <Field label="Name"><input name="name" required autofocus autocomplete="off" spellcheck={false} /></Field>
      <Field label="Virtual host"><select name="vhost">{hosts.map((name) => <option>{name}</option>)}</select></Field>
      <Field wide label="Address" hint="amqp://user:password@host/virtual-host"><input name="uri" required class="mono" placeholder="amqp://" autocomplete="off" spellcheck={false} /></Field>
      <Field wide label="Acknowledges"><select name="mode"><option value="on-confirm">on confirm: nothing is lost</option><option value="on-publish">on publish</option><option value="no-ack">not at all</option></select></Field>
      <Field wide label="More" hint="One a line: max-hops = 2, expires = 3600000"><textarea name="others" rows={2} spellcheck={false} /></Field>
    </FormDialog>
  );
}

export function Federation() {
  const { data: links, error } = useLive("/api/federation-links");
  const { data: upstreams, again } = usePolled(isPolicymaker() ? path("parameters", UPSTREAM) : null);
  const [isAdding, setAdding] = useState(false);
  const add = isPolicymaker() && <button class="primary" onClick={() => setAdding(true)}>Add an upstream</button>;
  return (
    <>
      <Heading title="Federation" sub="Exchanges that get what is published at another broker, and queues that take what waits there.">{upstreams?.length > 0 && add}</Heading>
      {error && <Failed error={error} />}
      {upstreams && (
        <Panel title="Upstreams">
          <Table tone="carried" label="upstreams" rows={upstreams} rowKey={(one) => `${one.vhost} ${one.name}`} empty={<Empty title="There is no upstream."><p>An upstream is another broker. A <a href={to("policies")}>policy</a> with federation-upstream then says which exchanges and queues are joined with it.</p>{add}</Empty>} columns={[
            { label: "Upstream", narrow: true, show: (one) => <><Name>{one.name}</Name> {one.value.paused && <Tag>paused</Tag>}{one.vhost !== "/" && <span class="quiet address"><Name>{one.vhost}</Name></span>}</> },
            { label: "Address", narrow: true, show: (one) => <Name>{[one.value.uri].flat().map(shownAddress).join(", ")}</Name> },
            { label: "Settings", show: (one) => Object.entries(one.value).filter(([name]) => !["uri", "paused"].includes(name)).map(([name, value]) => <Tag>{name} {valueOf(value)}</Tag>) },
            { label: "", number: true, narrow: true, show: (one) => <span class="row-acts">
              <button class="link" onClick={() => attempt(() => setPaused(UPSTREAM, one.vhost, one.name, !one.value.paused).then(again))}>{one.value.paused ? "Resume" : "Pause"}</button>
              <button class="link" aria-label={`delete the upstream ${one.name}`} onClick={() => later(`Deleting upstream ${one.name}`, () => ask("DELETE", path("parameters", UPSTREAM, one.vhost, one.name)).then(again), "The upstream is gone.")}>Delete</button>
            </span> },
          ]} />
        </Panel>
      )}
      <Panel title={links?.length ? plural(links.length, "link") : "Links"}>
        <Table tone="carried" label="links" rows={links} rowKey={(one) => one.id} empty={<Empty title="Nothing is federated."><p>There is a link for each exchange and queue that a policy joins with an upstream.</p></Empty>} columns={[
          { label: "What", narrow: true, show: (one) => <><Tag>{one.type}</Tag> <a href={to(`${one.type}s`, one.vhost, one[one.type])}><Name>{one[one.type]}</Name></a></> },
          { label: "State", narrow: true, show: (one) => <State state={one.status} reason={one.error} /> },
          { label: "Upstream", show: (one) => <><Name>{one.upstream}</Name><span class="quiet address"><Name>{one.uri}</Name></span></> },
          { label: "Brought", number: true, show: (one) => count(one.messages_forwarded) },
          { label: "", number: true, show: (one) => isPolicymaker() && <button class="link" onClick={() => attempt(() => ask("DELETE", path("federation-links", "vhost", one.vhost, one.id, one.node, "restart")), "It connects anew.")}>Restart</button> },
        ]} />
      </Panel>
      {isAdding && <AddUpstream onClose={() => setAdding(false)} onDone={again} />}
    </>
  );
}
