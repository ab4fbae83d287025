/** A chart on a canvas, by uPlot. */

import uPlot from "uplot";
import { token } from "../state/theme";
import { compact } from "../ui/format";
import type { Drawable } from "./data";
import type { Mark } from "./guess";

/** Of the way from one x to the next, what bars fill. */
const ROOM = 0.7;

export function draw(host: HTMLElement, data: Drawable, mark: Mark): uPlot {
  const palette = Array.from({ length: 6 }, (_, index) => token(`--series-${index + 1}`));
  const [text, grid] = [token("--muted"), token("--line-soft")];
  const axis = {
    stroke: text,
    grid: { stroke: grid, width: 1 },
    ticks: { stroke: grid, width: 1 },
    font: `11px ${token("--sans")}`,
  };
  const { labels } = data;
  const xAxis: uPlot.Axis = data.isTime
    ? { ...axis, space: 90, values: timeLabels }
    : labels === null
      ? axis
      : {
          ...axis,
          values: (_, splits) => splits.map((at) => shortened(labels[at] ?? "")),
          splits: (plot) => everyLabel(plot, labels.length),
        };
  const options: uPlot.Options = {
    width: Math.max(host.clientWidth, 200),
    height: Math.max(host.clientHeight - 34, 160),
    scales: {
      x: { time: data.isTime, range: xRange(data, mark) },
      y: { range: (_, low, high) => yRange(low, high, mark) },
    },
    axes: [xAxis, { ...axis, size: 62, values: (_, splits) => splits.map(compact) }],
    series: [
      xSeries(data),
      ...data.series.map((each, index) =>
        line(each.name, palette[index % palette.length] ?? text, mark, grouped(data, index)),
      ),
    ],
    cursor: { drag: { x: labels === null, y: false } },
    legend: { live: true },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
  };
  return new uPlot(options, [data.x, ...data.series.map(({ y }) => y)] as uPlot.AlignedData, host);
}

function xSeries({ name, labels, isTime }: Drawable): uPlot.Series {
  const say = (at: number): string => labels?.[at] ?? (isTime ? timeText(at) : at.toLocaleString("en-US"));
  return { label: name || "x", value: (_, at: number | null) => (at === null ? "–" : say(at)) };
}

function line(label: string, colour: string, mark: Mark, bars: uPlot.Series.PathBuilder | undefined): uPlot.Series {
  const shared: uPlot.Series = {
    label,
    stroke: colour,
    value: (_, y) => (y === null ? "–" : y.toLocaleString("en-US")),
  };
  if (mark === "bar")
    return {
      ...shared,
      fill: colour,
      width: 0,
      points: { show: false },
      ...(bars === undefined ? {} : { paths: bars }),
    };
  if (mark === "scatter")
    return { ...shared, paths: () => null, points: { show: true, size: 5, fill: colour, width: 0 } };
  return { ...shared, width: 1.8, spanGaps: false };
}

/** Bars of several series stand side by side in the room of one x. */
function grouped({ x, series }: Drawable, index: number): uPlot.Series.PathBuilder | undefined {
  const step = smallestStep(x);
  const width = (step * ROOM) / series.length;
  const starts = x.map((value) => value - (step * ROOM) / 2 + index * width);
  return uPlot.paths.bars?.({
    disp: { x0: { unit: 1, values: () => starts }, size: { unit: 1, values: () => [width] } },
    radius: 0.03,
  });
}

function smallestStep(x: readonly number[]): number {
  let step = Number.POSITIVE_INFINITY;
  for (let index = 1; index < x.length; index += 1) step = Math.min(step, (x[index] ?? 0) - (x[index - 1] ?? 0));
  return Number.isFinite(step) ? step : 1;
}

function timeText(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ").replace(" 00:00:00", "");
}

/** The day where one begins, else the time of day. */
function timeLabels(_: uPlot, splits: number[]): string[] {
  return splits.map((at) =>
    at % 86_400 === 0 ? timeText(at) : new Date(at * 1000).toISOString().slice(11, 19).replace(/:00$/, ""),
  );
}

function xRange({ x, labels }: Drawable, mark: Mark): uPlot.Range.MinMax | uPlot.Range.Function {
  if (labels !== null) return [-0.6, labels.length - 0.4];
  const span = (x.at(-1) ?? 0) - (x[0] ?? 0);
  const gap = mark === "bar" ? smallestStep(x) * 0.6 : mark === "scatter" ? span * 0.03 : 0;
  return (_, low, high) => (low === high ? [low - 1, high + 1] : [low - gap, high + gap]);
}

function yRange(low: number | null, high: number | null, mark: Mark): uPlot.Range.MinMax {
  if (low === null || high === null) return [0, 1];
  const isFar = mark !== "bar" && low > 0 && high - low < low; // zero would press the line flat
  const floor = mark === "scatter" || isFar ? low : Math.min(low, 0);
  const ceiling = mark === "scatter" ? high : Math.max(high, 0);
  const room = (ceiling - floor || 1) * 0.06;
  return [floor === 0 ? 0 : floor - room, ceiling === 0 ? 0 : ceiling + room];
}

function everyLabel(plot: uPlot, count: number): number[] {
  const room = Math.max(Math.floor(plot.width / 80), 2);
  const step = Math.max(Math.ceil(count / room), 1);
  return Array.from({ length: Math.ceil(count / step) }, (_, index) => index * step);
}

function shortened(text: string): string {
  return text.length > 14 ? `${text.slice(0, 13)}…` : text;
}
