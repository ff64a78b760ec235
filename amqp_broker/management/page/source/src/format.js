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

/** A moment of a chart, by how long it is gone. */
export function ago(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  const [size, unit] = seconds < 3600 ? [60, "min"] : [3600, "h"];
  return `${Number((seconds / size).toFixed(1))} ${unit} ago`;
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

export const plural = (number, one, many = one + "s") => `${count(number)} ${number === 1 ? one : many}`;

// Blanks at the ends, control characters, and those without a width or that turn the direction round. (What joins letters
// is part of many scripts, and stays.)
const UNSEEN = /^ +| +$|[\0-\x1f\x7f-\x9f\xad\u180e\u200b\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** A name of which everything can be seen: what cannot be is written as in JSON. */
export const visible = (name) => name.replace(UNSEEN, (part) => (part[0] === " " ? "␣".repeat(part.length) : `\\u${part.charCodeAt(0).toString(16).padStart(4, "0")}`));

/** A channel's name without the address that all clients connect to, so that its number is not cut off. */
export const channelName = (name) => name.replace(/ -> \S+ (\(\d+\))$/, " $1");
