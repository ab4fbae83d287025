/** Why a cell of the map is empty, and what to do about it. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { api } from "../api/client";
import type { TableDetail } from "../api/types";
import { now } from "../state/clock";
import { openAndRun } from "../state/tabs";
import { RunName, partitionLink, runLink } from "../table/dagster";
import { ago } from "../ui/format";
import { Icon } from "../ui/icons";
import { partitionKey } from "./key";
import { type PartitionMap, type Partitions, neighbours } from "./model";
import { short } from "./paint";
import { neighboursQuery, placesOf } from "./query";
import { type Reason, reasonOf } from "./reason";
import type { Spot } from "./view";

interface Props {
  detail: TableDetail;
  partitions: Partitions;
  map: PartitionMap;
  spot: Spot;
  /** The card is scrolled into view each time that this changes. */
  trigger: unknown;
  onClose: () => void;
}

export function Hole({ detail, partitions, map, spot, trigger, onClose }: Props) {
  const places = placesOf(map, spot);
  const { before, after } = neighbours(map, spot.column, spot.row);
  const key = partitionKey(partitions, new Map(places.map(({ axis, slot }) => [axis.name, axis.slots[slot] ?? null])));
  const open = partitions.columns
    .map(({ name }) => name)
    .filter((name) => !places.some(({ axis }) => axis.name === name));
  const reason = useReason(detail, key);
  const failedRun = reason?.kind === "failed" && reason.runId !== null ? runLink(detail, reason.runId) : null;
  const card = useRef<HTMLElement>(null);
  useRevealed(card, trigger, reason);
  const dagster = partitionLink(detail, key);
  const across = places.slice(0, -1);
  const label = (slot: number | null): string => (slot === null ? "none" : short(map.x.slots[slot] ?? null, 40));
  const openNeighbours = (): void =>
    openAndRun(
      neighboursQuery(detail.schema, detail.name, map.x, before, after, across),
      `around ${label(spot.column)}`,
    );
  return (
    <aside ref={card} class="hole" role="region" aria-label="Missing partition">
      <div class="hole-head">
        <span class="legend-hole" aria-hidden="true" />
        <h3>{places.map(({ axis, slot }) => `${axis.name} = ${short(axis.slots[slot] ?? null, 60)}`).join(", ")}</h3>
        <button type="button" class="icon-button" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </div>
      <p class="hole-reason" role="status" data-reason={reason === undefined ? "asking" : (reason?.kind ?? "unknown")}>
        {reason === undefined ? "Asking Dagster…" : <Why detail={detail} reason={reason} open={open} />}
      </p>
      <p>
        No query reads anything for it. Nearest before: <b>{label(before)}</b>, nearest after: <b>{label(after)}</b>.
      </p>
      <div class="hole-actions">
        {failedRun !== null && (
          <a class="button is-primary" href={failedRun} target="_blank" rel="noreferrer">
            See why it failed <Icon name="external" />
          </a>
        )}
        {dagster === null ? (
          <span class="muted">
            Materialize <code>{detail.asset_key.join("/")}</code> in Dagster.
          </span>
        ) : (
          <a class={`button ${failedRun === null ? "is-primary" : ""}`} href={dagster} target="_blank" rel="noreferrer">
            Materialize it in Dagster <Icon name="external" />
          </a>
        )}
        <button type="button" class="button" onClick={openNeighbours}>
          Query the neighbours
        </button>
      </div>
    </aside>
  );
}

/** Scroll the card into view, and again when it has grown by its reason, unless the user has scrolled on meanwhile. */
function useRevealed(card: { current: HTMLElement | null }, trigger: unknown, reason: unknown): void {
  const top = useRef<number | null>(null);
  const reveal = (): void => {
    card.current?.scrollIntoView({ block: "nearest" });
    top.current = topOf(card.current);
  };
  useLayoutEffect(reveal, [trigger]);
  useLayoutEffect(() => {
    if (topOf(card.current) === top.current) reveal();
  }, [reason]);
}

function topOf(element: HTMLElement | null): number | null {
  return element === null ? null : element.getBoundingClientRect().top;
}

/** Why the partition is missing; undefined until Dagster has answered, null if the reason is unknown. */
function useReason(detail: TableDetail, key: string | null): Reason | null | undefined {
  const [latest, setLatest] = useState<{ key: string | null; reason: Reason | null }>();
  useEffect(() => {
    let isCurrent = true;
    const answer =
      key === null ? Promise.resolve(null) : api.history(detail.schema, detail.name, key).then(reasonOf, () => null);
    void answer.then((reason) => isCurrent && setLatest({ key, reason }));
    return () => {
      isCurrent = false;
    };
  }, [detail, key]);
  return latest?.key === key ? latest?.reason : undefined;
}

interface WhyProps {
  detail: TableDetail;
  reason: Reason | null;
  /** The partition columns that the map leaves open. */
  open: readonly string[];
}

function Why({ detail, reason, open }: WhyProps) {
  if (open.length > 0)
    return (
      <>
        <b>Nothing here for any {open.join(" and ")}</b>. Choose {open[0]} as an axis to ask about one partition.
      </>
    );
  if (reason === null)
    return <>It was never materialized, or it was wiped: Dagster's event log has no current materialization of it.</>;
  const when = ago(reason.at, now.value);
  const run = reason.runId === null ? "A run" : <RunName detail={detail} id={reason.runId} />;
  switch (reason.kind) {
    case "never":
      return (
        <>
          <b>Never materialized</b>: Dagster knows of no run that was to make it.
        </>
      );
    case "failed":
      return (
        <>
          <b>The run failed</b>: {run} was to materialize it {when}.
        </>
      );
    case "cancelled":
      return (
        <>
          <b>The run was cancelled</b>: {run} was to materialize it {when}.
        </>
      );
    case "underway":
      return (
        <>
          <b>A run is under way</b>: {run} is to materialize it, since {when}.
        </>
      );
    case "nothing":
      return (
        <>
          <b>The run did not write it</b>: {run} was to materialize it {when}, and succeeded without.
        </>
      );
    case "deleted":
      return (
        <>
          <b>The run was deleted</b>: one was to materialize it {when}, and Dagster has no record of it any more.
        </>
      );
    case "wiped":
      return (
        <>
          <b>Wiped</b>: the asset&apos;s materializations were wiped {when}, and it was not made again.
        </>
      );
    case "unreadable":
      return (
        <>
          <b>Cannot be read</b>: it was materialized {when}, and the event names no file that this table can read.
        </>
      );
  }
}
