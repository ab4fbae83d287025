/** Values as colours: a ramp of the style sheet's colours, linear or logarithmic. */

import { token } from "../state/theme";
import type { Metric, Range } from "./model";

type Rgb = readonly [red: number, green: number, blue: number];

export interface Colours {
  ramp: readonly Rgb[];
  hole: Rgb;
  /** Of holes too small for hatching. */
  holeSolid: Rgb;
  holeLine: string;
  text: string;
  line: string;
  font: string;
}

const SHADES = 64;

export function readColours(): Colours {
  const stops = [0, 1, 2, 3].map((stop) => rgb(token(`--ramp-${stop}`)));
  const ramp = Array.from({ length: SHADES }, (_, shade) => {
    const place = (shade / (SHADES - 1)) * (stops.length - 1);
    const [low, high] = [stops[Math.floor(place)], stops[Math.ceil(place)]];
    return mixed(low ?? [0, 0, 0], high ?? [0, 0, 0], place % 1);
  });
  return {
    ramp,
    hole: rgb(token("--hole")),
    holeSolid: rgb(token("--hole-solid")),
    holeLine: token("--hole-line"),
    text: token("--muted"),
    line: token("--line"),
    font: `11px ${token("--sans")}`,
  };
}

/** From a value to 0..1: logarithmic when the values span more than two powers of ten. */
export function shadeOf(range: Range, metric: Metric): (value: number) => number {
  const { low, high } = range;
  if (high <= low) return () => 1;
  if (metric !== "age" && low >= 0 && high / Math.max(low, 1) > 100) {
    const [from, to] = [Math.log1p(low), Math.log1p(high)];
    return (value) => (Math.log1p(value) - from) / (to - from);
  }
  return (value) => (value - low) / (high - low);
}

export function css([red, green, blue]: Rgb): string {
  return `rgb(${red} ${green} ${blue})`;
}

export function shade(colours: Colours, share: number): Rgb {
  const index = Math.round(Math.min(Math.max(share, 0), 1) * (SHADES - 1));
  return colours.ramp[index] ?? [0, 0, 0];
}

export function mixed(low: Rgb, high: Rgb, share: number): Rgb {
  const channel = (index: 0 | 1 | 2): number => Math.round(low[index] + (high[index] - low[index]) * share);
  return [channel(0), channel(1), channel(2)];
}

function rgb(hex: string): Rgb {
  const value = Number.parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
