/** A query's time, by phase. Pure. */

import type { Stats } from "../api/types";

export interface PhaseTime {
  name: string;
  ms: number;
}

/** The phases of a finished query, in order; they add up to its total. */
export function phases(stats: Stats): PhaseTime[] {
  const known = stats.queued_s + stats.planning_s + stats.first_batch_s;
  const all = [
    { name: "queued", ms: stats.queued_s * 1000 },
    { name: "planning", ms: stats.planning_s * 1000 },
    { name: "first rows", ms: stats.first_batch_s * 1000 },
    { name: "streaming", ms: Math.max(stats.total_s - known, 0) * 1000 },
  ];
  return all.map(({ name, ms }) => ({ name, ms: Number.isFinite(ms) ? ms : 0 }));
}
