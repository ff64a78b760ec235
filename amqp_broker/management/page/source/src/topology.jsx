// What leads where, as a graph: layers from left to right, ordered so that few lines cross. Laid out here, drawn in SVG.
import { useMemo, useRef, useState } from "preact/hooks";
import { useLive, withQuery } from "./api.js";
import { count, rate, visible } from "./format.js";
import { Choice, Empty, Failed, Heading, Name, Search, Sign, Tag, useVirtualHosts } from "./parts.jsx";
import { setQuery, to, toQuery, useRoute } from "./route.js";

const WIDTH = 208;
const HEIGHT = 46;
const GAP_X = 130;
const GAP_Y = 14;
const SWEEPS = 6;

/** Layers by the longest way from a beginning; what would lead back (dead letters) does not count. */
function layersOf(nodes, edges) {
  const forward = edges.filter((edge) => edge.kind !== "dead-letter");
  const layer = new Map(nodes.map((node) => [node.id, 0]));
  for (let round = 0; round < Math.min(nodes.length, 12); round += 1) {
    let changed = false;
    for (const edge of forward)
      if (edge.from !== edge.to && layer.get(edge.to) < layer.get(edge.from) + 1 && layer.get(edge.from) < 11) {
        layer.set(edge.to, layer.get(edge.from) + 1);
        changed = true;
      }
    if (!changed) break;
  }
  const joined = new Set(edges.flatMap((edge) => [edge.from, edge.to]));
  for (const node of nodes) if (node.kind === "queue" && layer.get(node.id) === 0 && joined.has(node.id)) layer.set(node.id, 1);
  return layer;
}

export function layOut(nodes, edges) {
  const joined = new Set(edges.flatMap((edge) => [edge.from, edge.to]));
  const layer = layersOf(nodes, edges);
  const columns = [];
  for (const node of nodes.filter((one) => joined.has(one.id))) (columns[layer.get(node.id)] ??= []).push(node.id);
  const used = columns.filter(Boolean);
  const place = new Map();
  const number = () => used.forEach((column) => column.forEach((id, n) => place.set(id, n - column.length / 2)));
  number();
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const column of sweep % 2 ? [...used].reverse() : used) {
      const weight = new Map(column.map((id) => {
        const near = edges.filter((edge) => edge.kind !== "dead-letter" && (edge.from === id || edge.to === id)).map((edge) => place.get(edge.from === id ? edge.to : edge.from));
        return [id, near.length ? near.reduce((sum, one) => sum + one, 0) / near.length : place.get(id)];
      }));
      column.sort((a, b) => weight.get(a) - weight.get(b));
      number();
    }
  }
  const y = levelsOf(used, edges);
  const at = new Map();
  used.forEach((column, x) => column.forEach((id) => at.set(id, { x: 8 + x * (WIDTH + GAP_X), y: 8 + y.get(id) })));
  const alone = nodes.filter((one) => !joined.has(one.id));
  return { at, width: Math.max(1, used.length) * (WIDTH + GAP_X) - GAP_X + 16, height: Math.max(0, ...y.values()) + HEIGHT + GAP_Y + 40, alone };
}

/** How far down each is: the tallest column from the top on, and all others beside what they are joined to. */
function levelsOf(columns, edges) {
  const step = HEIGHT + GAP_Y;
  const near = new Map();
  for (const { from, to: end, kind } of edges)
    if (kind !== "dead-letter") for (const [one, other] of [[from, end], [end, from]]) near.set(one, [...(near.get(one) ?? []), other]);
  const y = new Map();
  const tallest = columns.reduce((best, column, n) => (column.length > columns[best].length ? n : best), 0);
  const place = (column, levels) => column.forEach((id, n) => y.set(id, levels[n]));
  const settle = (column) => {
    let last = 0;
    const wanted = column.map((id) => {
      const known = (near.get(id) ?? []).filter((one) => y.has(one)).map((one) => y.get(one));
      return (last = known.length ? known.reduce((sum, one) => sum + one, 0) / known.length : last + step);
    });
    place(column, spread(wanted, step));
  };
  place(columns[tallest] ?? [], (columns[tallest] ?? []).map((_, n) => n * step));
  for (const column of columns.slice(0, tallest).reverse()) settle(column);
  for (const column of columns.slice(tallest + 1)) settle(column);
  return y;
}

/** As near to what is wanted as may be, in this order, a step between each two and none above 0: those that would
 * overlap are moved together, as far up as down. */
function spread(wanted, step) {
  const blocks = [];
  const levelOf = (block) => Math.max(0, block.sum / block.size);
  for (const level of wanted) {
    blocks.push({ sum: level, size: 1 });
    while (blocks.length > 1 && levelOf(blocks.at(-2)) + blocks.at(-2).size * step > levelOf(blocks.at(-1))) {
      const { sum, size } = blocks.pop();
      const before = blocks.at(-1);
      before.sum += sum - size * before.size * step;
      before.size += size;
    }
  }
  return blocks.flatMap((block) => Array.from({ length: block.size }, (_, n) => levelOf(block) + n * step));
}

function wayOf(edge, at) {
  const from = at.get(edge.from);
  const end = at.get(edge.to);
  const y1 = from.y + HEIGHT / 2;
  const y2 = end.y + HEIGHT / 2;
  if (end.x > from.x) {
    const bend = Math.max(40, (end.x - from.x - WIDTH) / 2);
    return `M${from.x + WIDTH} ${y1}C${from.x + WIDTH + bend} ${y1} ${end.x - bend} ${y2} ${end.x - 6} ${y2}`;
  }
  const below = HEIGHT / 2 + 11; // beside the lines that lead forward
  if (end.x < from.x) {
    const bend = Math.max(40, (from.x - end.x - WIDTH) / 2);
    return `M${from.x} ${from.y + below}C${from.x - bend} ${from.y + below} ${end.x + WIDTH + bend} ${end.y + below} ${end.x + WIDTH + 6} ${end.y + below}`;
  }
  const far = from.x + WIDTH + 46;
  return `M${from.x + WIDTH} ${from.y + below}C${far} ${from.y + below} ${far} ${end.y + below} ${end.x + WIDTH + 6} ${end.y + below}`;
}

/** How much goes along each line and comes to each node, as far as it can be told; of several lines that lead to one queue
 * nobody counts which brought what.
 *
 * What comes to an exchange from another is counted nowhere either: it is at least what a queue gets that only it leads to. */
export function flowOf(nodes, edges) {
  const into = new Map();
  const bindings = edges.filter((edge) => edge.kind !== "dead-letter");
  for (const edge of bindings) into.set(edge.to, [...(into.get(edge.to) ?? []), edge]);
  const through = new Map(nodes.map((node) => [node.id, node.in]));
  for (let round = 0, changed = true; changed && round < 12; round += 1) {
    changed = false;
    for (const edge of bindings)
      if (into.get(edge.to).length === 1 && edge.from[0] === "e" && through.get(edge.from) < through.get(edge.to)) {
        through.set(edge.from, through.get(edge.to));
        changed = true;
      }
  }
  const mayCarry = (edge) => through.get(edge.from) > 0 && through.get(edge.to) > 0;
  return {
    along: (edge) => {
      if (edge.kind === "dead-letter" || !mayCarry(edge)) return null;
      const isAlone = into.get(edge.to).filter(mayCarry).length === 1;
      return { rate: isAlone ? through.get(edge.to) : null };
    },
    into: (node) => {
      const known = through.get(node.id);
      const isFed = node.kind === "exchange" && (into.get(node.id) ?? []).some((edge) => through.get(edge.from) > 0);
      return known || !isFed ? `${rate(known)}/s` : "";
    },
  };
}

const KINDS = { binding: "binding", alternate: "alternate exchange", "dead-letter": "dead letters" };
const nodeAddress = (vhost, node) => to(node.kind === "queue" ? "queues" : "exchanges", vhost, node.name || "amq.default");

function Graph({ data, picked, onPick }) {
  const shape = data.nodes.map((node) => node.id).join("\n") + data.edges.map((edge) => edge.from + edge.to + edge.kind).join("\n");
  const { at, width, height, alone } = useMemo(() => layOut(data.nodes, data.edges), [shape]);
  const near = picked && new Set([picked, ...data.edges.filter((edge) => edge.from === picked || edge.to === picked).flatMap((edge) => [edge.from, edge.to])]);
  const flow = flowOf(data.nodes, data.edges);
  return (
    <>
      {at.size > 0 && (
        <div class="graph" tabIndex="0" role="region" aria-label="topology">
          <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="group" aria-label={`${data.nodes.length} exchanges and queues`}>
            <defs><marker id="arrow" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 1 7 4 0 7Z" /></marker></defs>
            {data.edges.map((edge) => {
              const isFar = near && !(edge.from === picked || edge.to === picked);
              const carried = flow.along(edge);
              const keys = edge.keys.map((key) => key || "(empty)").join(", ");
              return (
                <g class={`edge edge-${edge.kind} ${isFar ? "far" : ""} ${carried ? "alive" : ""}`} key={`${edge.from} ${edge.to} ${edge.kind}`}>
                  <title>{`${KINDS[edge.kind]} ${edge.count > edge.keys.length ? `${keys} and ${edge.count - edge.keys.length} more` : keys}${carried?.rate ? `, ${rate(carried.rate)}/s` : ""}`}</title>
                  <path d={wayOf(edge, at)} marker-end="url(#arrow)" />
                </g>
              );
            })}
            {data.nodes.filter((node) => at.has(node.id)).map((node) => {
              const { x, y } = at.get(node.id);
              const isBad = node.kind === "queue" && node.messages_ready > 0 && !node.consumers;
              return (
                <g key={node.id} class={`node node-${node.kind} ${near && !near.has(node.id) ? "far" : ""} ${picked === node.id ? "picked" : ""} ${isBad ? "troubled" : ""}`} transform={`translate(${x} ${y})`}
                  role="button" tabindex="0" aria-pressed={picked === node.id} aria-label={`${node.kind} ${node.name || "(default)"} ${isBad ? "▲ " : ""}${node.kind === "queue" ? `${count(node.messages_ready)} ready` : node.type} ${flow.into(node)}`} onClick={() => onPick(node.id)} onKeyDown={(event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), onPick(node.id))}>
                  <title>{node.name || "(default)"}</title>
                  <rect width={WIDTH} height={HEIGHT} rx={node.kind === "queue" ? 6 : 23} />
                  <foreignObject width={WIDTH} height={HEIGHT}>
                    <div class="node-words">
                      <bdi>{visible(node.name) || "(default)"}</bdi>{" "}
                      <span>{node.kind === "queue" ? <>{isBad ? "▲ " : ""}{count(node.messages_ready)} ready</> : node.type} <i>{flow.into(node)}</i></span>
                    </div>
                  </foreignObject>
                </g>
              );
            })}
          </svg>
        </div>
      )}
      {alone.length > 0 && (
        <details class="alone"><summary>{count(alone.length)} without bindings, reached by their names only</summary>
          <ul class="chips">{alone.slice(0, 60).map((node) => <li><a href={nodeAddress(data.vhost, node)}><Name empty="(default)">{node.name}</Name></a></li>)}</ul>
        </details>
      )}
    </>
  );
}

export function Topology() {
  const hosts = useVirtualHosts();
  const { query } = useRoute();
  const vhost = query.vhost || hosts[0];
  const { data, error } = useLive(withQuery("/api/x/topology", { vhost, focus: query.focus, name: query.name }));
  const [picked, setPicked] = useState("");
  const node = data?.nodes.find((one) => one.id === picked);
  return (
    <>
      <Heading title="Topology">
        {node && <>
          <span><b><Name empty="(default)">{node.name}</Name></b></span>
          <a class="button" href={nodeAddress(vhost, node)}>Open</a>
          <a class="button" href={toQuery(to("topology"), { vhost, focus: node.id })}>Only around it</a>
          {node.kind === "exchange" && <a class="button" href={toQuery(to("explain"), { vhost, exchange: node.name })}>Explain a route</a>}
        </>}
      </Heading>
      <div class="filters">
        <Search value={query.name} onValue={(name) => setQuery({ name, focus: "" })} label="Find in the graph" />
        {hosts.length > 1 && <Choice label="Virtual host" value={vhost} options={hosts} onValue={(name) => setQuery({ vhost: name, focus: "" })} />}
        {query.focus && <button onClick={() => setQuery({ focus: "" })}>Show all</button>}
        <ul class="legend"><li class="legend-binding">binding</li><li class="legend-alternate">alternate</li><li class="legend-dead-letter">dead letters</li></ul>
      </div>
      {error && <Failed error={error} />}
      {data && !data.nodes.length && <Empty title={query.name ? "Nothing is named like that." : "There is nothing to draw yet."}><p>Exchanges and queues that are bound to each other show here.</p>{query.name && <button onClick={() => setQuery({ name: "" })}>Show all</button>}</Empty>}
      {data && data.nodes.length > 0 && <Graph data={data} picked={picked} onPick={(id) => setPicked(id === picked ? "" : id)} />}
      {data?.left_out > 0 && <p class="quiet">{count(data.left_out)} more are left out: search, or pick one and press “Only around it”.</p>}
    </>
  );
}
