// Exchanges, bindings, and why a message goes where it goes.
import { useState } from "preact/hooks";
import { ask, path, useLive, usePolled, withQuery } from "./api.js";
import { count, rate } from "./format.js";
import { Arguments, Check, Choice, Empty, Failed, Field, Figure, formOf, FormDialog, Heading, later, Name, NameInput, Paged, Pairs, Panel, put, readTable, Select, Sign, Table, Tag, useVirtualHosts } from "./parts.jsx";
import { Publish } from "./messages.jsx";
import { Bind, BindingsOf } from "./queue.jsx";
import { go, setQuery, to, toQuery, useRoute } from "./route.js";

const inPath = (name) => name || "amq.default";

const columns = [
  { label: "Exchange", narrow: true, sort: "name", show: (one) => <a href={to("exchanges", one.vhost, inPath(one.name))}><Name empty="(default)">{one.name}</Name></a> },
  { label: "Virtual host", sort: "vhost", show: (one) => <Name>{one.vhost}</Name> },
  { label: "Type", narrow: true, sort: "type", show: (one) => <Tag>{one.type}</Tag> },
  { label: "Features", show: (one) => <>{!one.durable && <Tag>transient</Tag>} {one.auto_delete && <Tag title="deleted with its last binding">AD</Tag>} {one.internal && <Tag>internal</Tag>} {one.policy && <Tag tone="accent">{one.policy}</Tag>} {one.messages_delayed > 0 && <a href={to("delayed", one.vhost, one.name)}>{count(one.messages_delayed)} held back</a>}</> },
  { label: "In /s", number: true, sort: "message_stats.publish_in_details.rate", show: (one) => rate(one.message_stats?.publish_in_details?.rate) },
  { label: "Out /s", number: true, sort: "message_stats.publish_out_details.rate", show: (one) => rate(one.message_stats?.publish_out_details?.rate) },
];

export function Exchanges() {
  const { query } = useRoute();
  const hosts = useVirtualHosts();
  const { data: overview } = usePolled("/api/overview?columns=exchange_types", 0);
  return (
    <>
      <Heading title="Exchanges"><button class="primary" onClick={() => setQuery({ add: "true" })}>Add an exchange</button></Heading>
      <Paged base="/api/exchanges" label="exchanges" columns={columns.filter((one) => one.label !== "Virtual host" || hosts.length > 1)} rowKey={(one) => `${one.vhost} ${one.name}`} />
      {query.add && (
        <FormDialog title="Add an exchange" submit="Add exchange" onClose={() => setQuery({ add: "" })} onSubmit={async (form) => {
          await put(path("exchanges", form.vhost, form.name), { type: form.type, durable: form.durable === "on", auto_delete: form.auto_delete === "on", internal: form.internal === "on", arguments: { ...readTable(form.arguments), ...(form.alternate ? { "alternate-exchange": form.alternate } : {}) } });
          setTimeout(() => go(to("exchanges", form.vhost, form.name)));
        }}>
          <Field label="Name"><input name="name" required autofocus maxLength={255} autocomplete="off" spellcheck={false} /></Field>
          <Field label="Virtual host"><select name="vhost">{hosts.map((name) => <option>{name}</option>)}</select></Field>
          <Field label="Type"><select name="type">{(overview?.exchange_types ?? [{ name: "direct" }]).map((one) => <option>{one.name}</option>)}</select></Field>
          <Field label="Alternate exchange" hint="Takes what no binding matches."><NameInput noun="exchanges" name="alternate" /></Field>
          <div class="field wide"><span class="label">Properties</span><div class="checks"><Check name="durable" label="durable" checked /><Check name="auto_delete" label="auto-delete" /><Check name="internal" label="internal" /></div></div>
          <Field wide label="Arguments" hint="One a line, or a JSON object."><textarea name="arguments" rows={2} spellcheck={false} /></Field>
        </FormDialog>
      )}
    </>
  );
}

export function Exchange({ names: [vhost, name] }) {
  const isDefault = name === "amq.default";
  const { data, error } = useLive(path("exchanges", vhost, name));
  const from = usePolled(isDefault ? null : path("exchanges", vhost, name, "bindings", "source"));
  const towards = usePolled(isDefault ? null : path("exchanges", vhost, name, "bindings", "destination"));
  const [isAdding, setAdding] = useState(false);
  const title = <Name>{isDefault ? "(default)" : name}</Name>;
  if (error) return <><Heading title={title} above={<a href={to("exchanges")}>Exchanges</a>} /><Empty title={error}><a href={to("exchanges")}>All exchanges</a></Empty></>;
  const isPredeclared = isDefault || name.startsWith("amq.");
  return (
    <>
      <Heading title={title} above={<><a href={to("exchanges")}>Exchanges</a> in <Name>{vhost}</Name></>} sub={data && <><Tag>{data.type}</Tag>{data.internal && <Tag>internal</Tag>}{!data.durable && <Tag>transient</Tag>}</>}>
        <a class="button" href={toQuery(to("explain"), { vhost, exchange: isDefault ? "" : name })}>Explain a route</a>
        {data?.messages_delayed !== undefined && <a class="button" href={to("delayed", vhost, name)}>Delayed messages</a>}
        {!isDefault && <a class="button" href={toQuery(to("topology"), { vhost, focus: `e:${name}` })}>Topology</a>}
        {!isPredeclared && <button class="danger" onClick={() => later(`Deleting exchange ${name}`, async () => {
          await ask("DELETE", path("exchanges", vhost, name));
          if (location.hash.startsWith(to("exchanges", vhost, name))) go(to("exchanges"));
        }, `Exchange ${name} is deleted.`)}>Delete</button>}
      </Heading>
      {data && <>
        <dl class={`figures ${data.messages_delayed === undefined ? "figures-2" : "figures-3"}`}>
          <Figure label="In" value={rate(data.message_stats.publish_in_details.rate)} unit="/s" sub={`${count(data.message_stats.publish_in)} in all`} />
          <Figure label="Out, once for each queue" value={rate(data.message_stats.publish_out_details.rate)} unit="/s" sub={`${count(data.message_stats.publish_out)} in all`} />
          {data.messages_delayed !== undefined && <Figure label="Held back" value={count(data.messages_delayed)} sub="until they are due" />}
        </dl>
        {isDefault
          ? <Panel title="Bindings"><p class="quiet">Every queue is bound to the default exchange by its own name.</p></Panel>
          : <>
            <Panel title="Where it leads" actions={<button onClick={() => setAdding(true)}>Add a binding</button>}>
              <BindingsOf rows={from.data} vhost={vhost} lead="from" onChange={from.again} empty={<Empty title="It leads nowhere."><p>What is published here is {data.arguments["alternate-exchange"] ? "handed to the alternate exchange" : "dropped, or returned where the publisher asks for that"}.</p></Empty>} />
            </Panel>
            {towards.data?.length > 0 && <Panel title="What leads here"><BindingsOf rows={towards.data} vhost={vhost} lead="to" onChange={towards.again} /></Panel>}
          </>}
        {!isDefault && <Panel title="What it is"><Pairs pairs={[["Durable", data.durable ? "yes" : "no"], ["Auto-delete", data.auto_delete ? "yes" : "no"], ["Policy", data.policy ? <Name>{data.policy}</Name> : <span class="quiet">none</span>], ["Arguments", <Arguments table={data.arguments} />]]} /></Panel>}
        {!data.internal && <Panel title="Publish here"><Publish vhost={vhost} exchange={isDefault ? "" : name} /></Panel>}
      </>}
      {isAdding && <Bind vhost={vhost} source={name} onClose={() => setAdding(false)} onDone={from.again} />}
    </>
  );
}

export function Bindings() {
  const hosts = useVirtualHosts();
  const { query } = useRoute();
  const vhost = query.vhost || hosts[0];
  const [isAdding, setAdding] = useState(false);
  return (
    <>
      <Heading title="Bindings"><button class="primary" onClick={() => setAdding(true)}>Add a binding</button></Heading>
      <Paged base={path("bindings", vhost)} label="bindings" search="Find by destination" order={{ sort: "source", reverse: "true" }} empty={<Empty title="Nothing is bound."><p>A binding leads what is published to an exchange on to a queue or another exchange.</p><button class="primary" onClick={() => setAdding(true)}>Add a binding</button></Empty>} columns={[
        { label: "From", narrow: true, tone: "tight", sort: "source", show: (one) => (one.source ? <a href={to("exchanges", vhost, one.source)}><Name>{one.source}</Name></a> : <span class="quiet">(default)</span>) },
        { label: "Routing key", narrow: true, tone: "tight", sort: "routing_key", show: (one) => <Name empty="(empty)">{one.routing_key}</Name> },
        { label: "To", narrow: true, tone: "tight", sort: "destination", show: (one) => <a href={to(one.destination_type === "queue" ? "queues" : "exchanges", vhost, one.destination)}><Name>{one.destination}</Name></a> },
        { label: "", about: "what that is", show: (one) => <Tag>{one.destination_type}</Tag> },
        { label: "Arguments", show: (one) => <Arguments table={one.arguments} empty="" /> },
      ]}>
        {hosts.length > 1 && <Choice label="Virtual host" value={vhost} options={hosts} onValue={(name) => setQuery({ vhost: name, page: "" })} />}
      </Paged>
      {isAdding && <Bind vhost={vhost} onClose={() => setAdding(false)} onDone={() => {}} />}
    </>
  );
}

// --- explained routes

const VERDICTS = { true: ["ok", "takes it"], false: ["idle", "does not"], null: ["mild", "cannot be told"] };

export function Explain() {
  const hosts = useVirtualHosts();
  const { query } = useRoute();
  const isAsked = query.key !== undefined;
  const headers = {};
  let problem = "";
  try {
    for (const [name, value] of Object.entries(readTable(query.headers ?? ""))) headers[`header.${name}`] = typeof value === "string" ? value : JSON.stringify(value);
  } catch (error) {
    problem = error.message;
  }
  const { data, error, status } = usePolled(isAsked && !problem ? withQuery("/api/x/explain/route", { vhost: query.vhost || "/", exchange: query.exchange, ...headers }) + `&key=${encodeURIComponent(query.key)}` : null, 3000);
  const submitted = (event) => {
    const form = formOf(event);
    go(`${toQuery(to("explain"), { vhost: form.vhost, exchange: form.exchange, headers: form.headers })}&key=${encodeURIComponent(form.key)}`);
  };
  return (
    <>
      <Heading title="Explain a route" sub="Where a message would go, and what each binding on its way says. Nothing is published." />
      <Panel>
        <form class="form" key={`${query.vhost} ${query.exchange}`} onSubmit={submitted}>
          <Field label="Exchange" hint="Empty is the default exchange."><NameInput noun="exchanges" vhost={query.vhost || hosts[0]} name="exchange" defaultValue={query.exchange} autofocus /></Field>
          <Field label="Routing key"><input name="key" defaultValue={query.key} autocomplete="off" spellcheck={false} /></Field>
          <Field label="Virtual host"><Select name="vhost" options={hosts} initial={query.vhost || hosts[0]} /></Field>
          <Field label="Headers" hint="One a line: region = eu"><textarea name="headers" rows={1} defaultValue={query.headers} spellcheck={false} /></Field>
          <footer><button class="primary">Explain</button></footer>
        </form>
      </Panel>
      {problem && <Failed error={problem} />}
      {error && (status === 404 && error.startsWith("It is not there") ? <Empty title="This broker cannot explain routes yet." /> : <Failed error={error} />)}
      {data && <>
        <Panel title="It goes to">
          {data.queues.length ? <ul class="chips">{data.queues.map((name) => <li><Sign kind="ok"><a href={to("queues", data.vhost, name)}><Name>{name}</Name></a></Sign></li>)}</ul> : <Sign kind={data.maybe_queues.length ? "mild" : "bad"}>{data.maybe_queues.length ? "perhaps" : "no queue: it would be dropped, or returned"}</Sign>}
          {data.maybe_queues.length > 0 && <ul class="chips">{data.maybe_queues.map((name) => <li><Sign kind="mild"><Name>{name}</Name></Sign></li>)}</ul>}
        </Panel>
        {data.steps.map((step) => (
          <Panel title={<><Name empty="(default)">{step.exchange}</Name> <Tag>{step.type}</Tag></>} actions={<span class="quiet">{step.reached}</span>}>
            <Table label={`bindings of ${step.exchange || "the default exchange"}`} rows={step.bindings} empty={<p class="quiet">It has no bindings.</p>} columns={[
              { label: "", about: "verdict", narrow: true, show: (one) => <Sign kind={VERDICTS[one.matches][0]}>{VERDICTS[one.matches][1]}</Sign> },
              { label: "To", narrow: true, show: (one) => <><Name>{one.destination}</Name> {one.destination_type === "exchange" && <Tag>exchange</Tag>}</> },
              { label: "Bound with", show: (one) => <Name empty="(empty)">{one.routing_key}</Name> },
              { label: "Why", narrow: true, show: (one) => <span class="why">{one.why}</span> },
            ]} />
            {step.alternate && <p class="quiet step-foot">Alternate exchange <Name>{step.alternate}</Name>: {step.alternate_used}</p>}
          </Panel>
        ))}
      </>}
      {!isAsked && <Empty title="Why does this message not arrive?"><p>Type an exchange and a routing key: each binding says whether it takes the message, and why.</p></Empty>}
    </>
  );
}
