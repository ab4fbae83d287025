/** What the map's colours mean. */

import { useEffect, useRef } from "preact/hooks";
import { now } from "../state/clock";
import { isDark } from "../state/theme";
import { ago, bytes, compact, count } from "../ui/format";
import { css, readColours, shade } from "./colour";
import { type Metric, type PartitionMap, rangeOf } from "./model";

const WIDTH = 96;

export function Legend({ map, metric }: { map: PartitionMap; metric: Metric }) {
  const { low, high } = rangeOf(map, metric);
  const label = (value: number): string =>
    metric === "rows" ? compact(value) : metric === "bytes" ? bytes(value) : ago(value, now.value);
  return (
    <div class="legend">
      <span class="legend-scale" title={`${metric}, from low to high`}>
        <span>{label(low)}</span>
        <Ramp />
        <span>{label(high)}</span>
      </span>
      <span class={`legend-holes ${map.holes > 0 ? "" : "is-none"}`}>
        <span class="legend-hole" aria-hidden="true" />
        {map.holes === 0 ? "none missing" : `${count(map.holes)} missing`}
      </span>
    </div>
  );
}

function Ramp() {
  const canvas = useRef<HTMLCanvasElement>(null);
  const dark = isDark();
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context) return;
    const colours = readColours();
    for (let x = 0; x < WIDTH; x += 1) {
      context.fillStyle = css(shade(colours, x / (WIDTH - 1)));
      context.fillRect(x, 0, 1, 10);
    }
  }, [dark]);
  return <canvas class="legend-ramp" ref={canvas} width={WIDTH} height={10} aria-hidden="true" />;
}
