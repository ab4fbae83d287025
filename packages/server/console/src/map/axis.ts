/** The ordered slots of one partition column. Pure.
 *
 * A column of dates or times is continuous: its smallest regular step is found, and steps at which nothing was materialized are
 * slots too. Any other column has its values in their order.
 */

export interface Axis {
  name: string;
  type: string;
  isTime: boolean;
  /** Each slot's value as canonical text; null is the NULL partition. */
  slots: readonly (string | null)[];
  slotOf: ReadonlyMap<string | null, number>;
}

const DAY = 86_400_000;
const HOUR = 3_600_000;
const MINUTE = 60_000;
const MOST_SLOTS = 200_000;

export function axis(name: string, type: string, values: Iterable<string | null>): Axis {
  const distinct = new Set(values);
  const hasNull = distinct.delete(null);
  const texts = [...distinct] as string[];
  const isTime = /^(date|timestamp)/.test(type);
  const ordered = isTime ? continuous(texts, type.startsWith("date")) : texts.sort(comparator(type));
  const slots = hasNull ? [...ordered, null] : ordered;
  return { name, type, isTime, slots, slotOf: new Map(slots.map((value, slot) => [value, slot] as const)) };
}

function comparator(type: string): (a: string, b: string) => number {
  if (/^(u?int|float|double|halffloat|decimal)/.test(type)) return (a, b) => Number(a) - Number(b);
  return (a, b) => (a < b ? -1 : a > b ? 1 : 0);
}

/** Times with the steps between them filled in, where they are regular; else as they are. */
function continuous(texts: string[], isDate: boolean): string[] {
  const sorted = texts.sort();
  const times = sorted.map(parse);
  const [first, last] = [times[0], times.at(-1)];
  if (first === undefined || last === undefined || times.some(Number.isNaN)) return sorted;
  const next = stepper(times, isDate);
  if (next === null) return sorted;
  const known = new Map(sorted.map((text, index) => [times[index], text] as const));
  const like = sorted[0] ?? "";
  const filled: string[] = [];
  let met = 0;
  for (let time = first; time <= last; time = next(time)) {
    if (filled.length > MOST_SLOTS) return sorted;
    met += known.has(time) ? 1 : 0;
    filled.push(known.get(time) ?? format(time, like));
  }
  return met === known.size ? filled : sorted;
}

/** From one time to the one that should follow; null where the times have no rhythm. */
function stepper(times: readonly number[], isDate: boolean): ((time: number) => number) | null {
  const steps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
  const smallest = steps.reduce((least, step) => Math.min(least, step), Number.POSITIVE_INFINITY);
  if (steps.length > 0 && times.every((time) => new Date(time).getUTCDate() === 1 && time % DAY === 0))
    return nextMonth;
  const units = isDate ? [7 * DAY, DAY] : [smallest, HOUR, MINUTE];
  const unit = steps.length === 0 ? DAY : units.find((each) => steps.every((step) => step % each === 0));
  return unit === undefined ? null : (time) => time + unit;
}

function nextMonth(time: number): number {
  const date = new Date(time);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
}

function parse(text: string): number {
  return Date.parse(
    /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00Z` : `${text.replace(" ", "T").replace(/Z?$/, "Z")}`,
  );
}

function format(time: number, like: string): string {
  const text = new Date(time).toISOString();
  if (like.length === 10) return text.slice(0, 10);
  return `${text.slice(0, 10)} ${text.slice(11, 19)}${like.endsWith("Z") ? "Z" : ""}`;
}

/** The slots to label between two, at least `step` apart: of days, where months begin as long as they are not too many. */
export function ticks({ isTime, slots }: Axis, from: number, to: number, step: number): number[] {
  const seen = Array.from({ length: Math.ceil(to) - Math.floor(from) }, (_, index) => Math.floor(from) + index);
  const every = seen.filter((slot) => slot % step === 0);
  if (!isTime || step < 10) return every;
  const months = seen.filter((slot) => /^\d+-\d\d-01(?: 00:00:00Z?)?$/.test(slots[slot] ?? ""));
  const [first, second] = months;
  const span = first === undefined || second === undefined ? 1 : second - first;
  const apart = Math.ceil((step * 1.1) / span);
  const kept = months.filter((slot) => (Number((slots[slot] ?? "").slice(5, 7)) - 1) % apart === 0);
  return kept.length >= 3 ? kept : every;
}
