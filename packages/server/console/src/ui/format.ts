/** Numbers and times as people read them. Pure. */

const GROUPED = new Intl.NumberFormat("en-US");
const COMPACT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? "–" : GROUPED.format(value);
}

export function compact(value: number | null): string {
  return value === null ? "–" : COMPACT.format(value);
}

export function plural(value: number, noun: string): string {
  return `${GROUPED.format(value)} ${noun}${value === 1 ? "" : "s"}`;
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value < 1000) return `${value} B`;
  const units = ["kB", "MB", "GB", "TB", "PB"];
  const power = Math.min(Math.floor(Math.log10(value) / 3), units.length);
  const scaled = value / 1000 ** power;
  return `${scaled >= 100 ? scaled.toFixed(0) : scaled.toFixed(1)} ${units[power - 1]}`;
}

export function duration(ms: number): string {
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`;
}

/** A price, to two significant digits where it is below a cent. */
export function dollars(value: number): string {
  if (value === 0 || value >= 0.01) return `$${value.toFixed(2)}`;
  return value < 1e-6 ? "<$0.000001" : `$${value.toFixed(1 - Math.floor(Math.log10(value)))}`;
}

/** How long ago, in one unit. */
export function age(seconds: number): string {
  if (seconds < 5) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function ago(time: string | number | null, now: number): string {
  if (time === null) return "never";
  const text = age(Math.max(0, (now - (typeof time === "number" ? time : Date.parse(time))) / 1000));
  return text === "now" ? "just now" : `${text} ago`;
}

export function percent(part: number, whole: number): string {
  if (whole === 0) return "0%";
  const share = (part / whole) * 100;
  return share > 0 && share < 1 ? "<1%" : share < 100 && share > 99 ? ">99%" : `${Math.round(share)}%`;
}

/** A link to a web page, or null: nothing else that a URL may do. */
export function webLink(url: string | null | undefined): string | null {
  return url?.match(/^https?:\/\//i) ? url : null;
}
