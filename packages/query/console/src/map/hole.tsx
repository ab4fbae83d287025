/** Why a cell of the map is empty, and what to do about it. */

import type { TableDetail } from "../api/types";
import { openAndRun } from "../state/tabs";
import { partitionLink } from "../table/dagster";
import { Icon } from "../ui/icons";
import { type PartitionMap, neighbours } from "./model";
import { short } from "./paint";
import { neighboursQuery, placesOf } from "./query";
import type { Spot } from "./view";

interface Props {
  detail: TableDetail;
  map: PartitionMap;
  spot: Spot;
  onClose: () => void;
}

export function Hole({ detail, map, spot, onClose }: Props) {
  const places = placesOf(map, spot);
  const { before, after } = neighbours(map, spot.column, spot.row);
  const dagster = partitionLink(detail, new Map(places.map(({ axis, slot }) => [axis.name, axis.slots[slot] ?? null])));
  const across = places.slice(0, -1);
  const say = (slot: number | null): string => (slot === null ? "none" : short(map.x.slots[slot] ?? null, 40));
  const look = (): void =>
    openAndRun(neighboursQuery(detail.schema, detail.name, map.x, before, after, across), `around ${say(spot.column)}`);
  return (
    <aside class="hole" role="region" aria-label="Missing partition">
      <div class="hole-head">
        <span class="legend-hole" aria-hidden="true" />
        <h3>{places.map(({ axis, slot }) => `${axis.name} = ${short(axis.slots[slot] ?? null, 60)}`).join(", ")}</h3>
        <button type="button" class="icon-button" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </div>
      <p>
        This partition was never materialized, or it was wiped: Dagster's event log has no current materialization of
        it, so no query reads anything for it. Nearest before: <b>{say(before)}</b>, nearest after: <b>{say(after)}</b>.
      </p>
      <div class="hole-actions">
        {dagster === null ? (
          <span class="muted">
            Materialize <code>{detail.asset_key.join("/")}</code> in Dagster.
          </span>
        ) : (
          <a class="button is-primary" href={dagster} target="_blank" rel="noreferrer">
            Materialize it in Dagster <Icon name="external" />
          </a>
        )}
        <button type="button" class="button" onClick={look}>
          Query the neighbours
        </button>
      </div>
    </aside>
  );
}
