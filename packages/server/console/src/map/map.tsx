/** The partition map of a table: what was materialized, and what was not. */

import { useMemo, useState } from "preact/hooks";
import type { TableDetail } from "../api/types";
import { now } from "../state/clock";
import { openAndRun } from "../state/tabs";
import { ago, bytes, count, plural } from "../ui/format";
import { Canvas } from "./canvas";
import { type Axes, carriedSpot } from "./carry";
import { Hole } from "./hole";
import { Legend } from "./legend";
import { type Metric, type PartitionMap, type Partitions, defaultAxes, partitionMap } from "./model";
import { short } from "./paint";
import { partitionQuery, placesOf } from "./query";
import type { Spot } from "./view";

const METRICS: readonly Metric[] = ["rows", "bytes", "age"];

export function PartitionMapView({ detail, partitions }: { detail: TableDetail; partitions: Partitions }) {
  const [axes, setAxes] = useState(() => defaultAxes(partitions.columns));
  const [metric, setMetric] = useState<Metric>("rows");
  const [chosen, setChosen] = useState<Chosen | null>(null);
  const map = useMemo(() => partitionMap(partitions, axes.x, axes.y), [partitions, axes]);
  const hole = useMemo(() => holeIn(map, chosen), [map, chosen]);
  const pick = (next: typeof axes): void => {
    setAxes(next);
    setChosen(null);
  };
  const names = partitions.columns.map(({ name }) => name);

  const choose = (spot: Spot): void => {
    if (map === null) return;
    setChosen(isHole(map, spot) ? { axes: { x: map.x, y: map.y }, spot } : null);
    if (!isHole(map, spot))
      openAndRun(partitionQuery(detail.schema, detail.name, placesOf(map, spot)), labelOf(map, spot));
  };

  return (
    <section class="map" aria-label="Partition map">
      <div class="map-controls">
        <div class="segments" role="radiogroup" aria-label="Colour by">
          {METRICS.map((each) => (
            <button
              key={each}
              type="button"
              role="radio"
              aria-checked={metric === each}
              class="segment"
              onClick={() => setMetric(each)}
            >
              {each}
            </button>
          ))}
        </div>
        {names.length > 1 && (
          <AxisPick
            label="x"
            value={axes.x}
            names={names}
            onPick={(x) => x !== null && pick({ x, y: x === axes.y ? axes.x : axes.y })}
          />
        )}
        {names.length > 1 && (
          <AxisPick
            label="y"
            value={axes.y}
            names={names}
            canBeNone
            onPick={(y) =>
              pick({
                x: y === axes.x && axes.y !== null ? axes.y : axes.x,
                y: y === axes.x && axes.y === null ? null : y,
              })
            }
          />
        )}
        {map !== null && <Legend map={map} metric={metric} />}
      </div>
      {map === null ? (
        <p class="quiet-note">
          These columns have too many combinations to draw. Choose another axis; the list below has every partition.
        </p>
      ) : (
        <>
          <Canvas
            map={map}
            metric={metric}
            chosen={hole}
            describe={(spot) => describe(map, partitions, spot)}
            onChoose={choose}
          />
          {hole !== null && (
            <Hole
              detail={detail}
              partitions={partitions}
              map={map}
              spot={hole}
              trigger={chosen}
              onClose={() => setChosen(null)}
            />
          )}
        </>
      )}
    </section>
  );
}

interface Chosen {
  axes: Axes;
  spot: Spot;
}

/** The chosen hole on the map as it is now; null if it was filled. */
function holeIn(map: PartitionMap | null, chosen: Chosen | null): Spot | null {
  if (map === null || chosen === null) return null;
  const spot = carriedSpot(chosen.axes, map, chosen.spot);
  return spot !== null && isHole(map, spot) ? spot : null;
}

function isHole(map: PartitionMap, { column, row }: Spot): boolean {
  return map.counts[row * map.x.slots.length + column] === 0;
}

function labelOf(map: PartitionMap, spot: Spot): string {
  return placesOf(map, spot)
    .map(({ axis, slot }) => short(axis.slots[slot] ?? null, 24))
    .join(" · ");
}

/** What a cell is, in words: its place, then its facts. */
function describe(map: PartitionMap, partitions: Partitions, spot: Spot): { place: string; facts: string } {
  const slot = spot.row * map.x.slots.length + spot.column;
  const place = placesOf(map, spot)
    .map(({ axis, slot: at }) => `${axis.name} ${short(axis.slots[at] ?? null, 60)}`)
    .join(", ");
  const here = map.counts[slot] ?? 0;
  if (here === 0) return { place, facts: "nothing here: click to see why" };
  const run = here === 1 ? partitions.runIdOf(map.example[slot] ?? 0)?.slice(0, 8) : undefined;
  const facts = [
    here > 1 ? plural(here, "partition") : "",
    `${count(map.rows[slot])} rows`,
    bytes(map.bytes[slot]),
    ago(map.times[slot] ?? 0, now.peek()),
    run ? `run ${run}` : "",
  ];
  return { place, facts: facts.filter((fact) => fact !== "").join(" · ") };
}

interface AxisPickProps {
  label: string;
  value: number | null;
  names: readonly string[];
  canBeNone?: boolean;
  onPick: (column: number | null) => void;
}

function AxisPick({ label, value, names, canBeNone = false, onPick }: AxisPickProps) {
  return (
    <label class="field">
      <span>{label}</span>
      <select
        aria-label={label}
        value={value ?? ""}
        onChange={({ currentTarget }) => onPick(currentTarget.value === "" ? null : Number(currentTarget.value))}
      >
        {canBeNone && <option value="">none</option>}
        {names.map((name, index) => (
          <option key={name} value={index}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
