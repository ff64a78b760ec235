// How numbers were: curves of the last ten minutes or of longer, with the choice in the address.
import { usePolled } from "./api.js";
import { Chart, Panel, Switch } from "./parts.jsx";
import { setQuery, useRoute } from "./route.js";

const SPANS = {
  "": { label: "10 min", age_s: 600, step_s: 10 },
  hour: { label: "1 hour", age_s: 3600, step_s: 60 },
  day: { label: "1 day", age_s: 86_400, step_s: 1800 },
};
const SHORTER_S = [120, 300];

/** Curves in panels. `target`: a path with columns; `spans`: which may be chosen; `panelsOf(data)`: [{title, unit, lines: [[name, values]]}]. */
export function Past({ target, spans, panelsOf }) {
  const { query } = useRoute();
  const chosen = spans.includes(query.last) ? query.last : "";
  return (
    <>
      <div class="over-time">
        <h2>Over time</h2>
        <Switch label="how long" value={chosen} options={spans.map((one) => [one, SPANS[one].label])} onValue={(last) => setQuery({ last })} />
      </div>
      <Panels key={chosen} target={target} span={SPANS[chosen]} panelsOf={panelsOf} />
    </>
  );
}

function Panels({ target, span: { age_s, step_s }, panelsOf }) {
  const { data } = usePolled(`${target}&lengths_age=${age_s}&lengths_incr=${step_s}&msg_rates_age=${age_s}&msg_rates_incr=${step_s}`);
  const panels = panelsOf(data ?? {});
  const known = Math.max(...panels.flatMap(({ lines }) => lines.map(([, values]) => values.length)));
  // Of ten minutes the little that is known at first is drawn large; who chooses a longer time wants to see all of it.
  const shown_s = (age_s === SPANS[""].age_s && SHORTER_S.find((one) => one / step_s >= known - 1)) || age_s;
  return (
    <div class="two">
      {panels.map(({ title, unit, lines }) => (
        <Panel title={title}>
          <Chart unit={unit} seconds={shown_s} series={lines.map(([name, values], n) => ({ name, values: lastOf(values, shown_s / step_s + 1), tone: `tone-${n + 1}` }))} />
        </Panel>
      ))}
    </div>
  );
}

/** The last values, with nothing before them where less is known. */
const lastOf = (values, length) => [...Array(Math.max(0, length - values.length)).fill(null), ...values].slice(-length);
