// Numbers, sizes and times as people read them.
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 12345 -> 12,345; from a hundred thousand on 123 k. */
export function count(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return "–";
  if (Math.abs(value) < 100_000) return whole.format(value);
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (Math.abs(value) >= size) return `${(value / size).toFixed(Math.abs(value) / size < 100 ? 1 : 0)} ${unit}`;
  return whole.format(value);
}

/** Of each second; what is not there is a quiet dash. */
export function rate(value) {
  if (!value) return "0";
  if (value < 0.1) return "<0.1";
  return value < 10 ? value.toFixed(1) : count(value);
}

export function bytes(value) {
  if (value === undefined || value === null) return "–";
  let number = value;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (number < 1024 || unit === "TiB") return `${unit === "B" || number >= 100 ? Math.round(number) : number.toFixed(1)} ${unit}`;
    number /= 1024;
  }
  return "";
}

export function duration(ms) {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} days`;
}

export const time = (ms) => new Date(ms).toLocaleTimeString("en-GB");
export const moment = (ms) => `${new Date(ms).toLocaleDateString("en-CA")} ${time(ms)}`;
/** How samples of a counter grew, each second; before anybody looked nothing is known. The newest come first.
 *
 * The broker looks each five seconds and not at the very moments that are asked for, and the newest sample is from now: so
 * that one is left out, and each step is seen with the one before it. */
export function growth(details) {
  const samples = [...(details?.samples ?? [])].reverse().slice(0, -1);
  return samples.slice(1).map((one, n) => {
    const before = samples[Math.max(n - 1, 0)];
    return one.timestamp <= before.timestamp ? 0 : Math.max(0, ((one.sample - before.sample) * 1000) / (one.timestamp - before.timestamp));
  });
}
/** How a level was. */
export function levels(details) {
  return [...(details?.samples ?? [])].reverse().map((one) => one.sample);
}

// --- how much of the past is drawn: as long as little is known, the little is drawn large

export const PAST_S = 600;
const STEP_S = 10;
const SPANS_MIN = [2, 5, 10];
export const PAST_QUERY = `lengths_age=${PAST_S}&lengths_incr=${STEP_S}&msg_rates_age=${PAST_S}&msg_rates_incr=${STEP_S}`;

/** The minutes that are drawn of what is known, and what takes the last values of that. */
export function spanOf(details) {
  const known = (details?.samples?.length ?? 1) - 1;
  const minutes = SPANS_MIN.find((span) => (span * 60) / STEP_S >= known) ?? SPANS_MIN.at(-1);
  return { words: `last ${minutes} minutes`, last: (values) => values.slice((-minutes * 60) / STEP_S - 1) };
}

export const plural = (number, one, many = one + "s") => `${count(number)} ${number === 1 ? one : many}`;
