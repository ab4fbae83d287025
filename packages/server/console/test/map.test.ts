import { describe, expect, it } from "vitest";
import { type Axis, axis, ticks } from "../src/map/axis";
import { carriedSpot, carriedView } from "../src/map/carry";
import { partitionKey } from "../src/map/key";
import { type Partitions, defaultAxes, neighbours, partitionMap, rangeOf } from "../src/map/model";
import { neighboursQuery, partitionQuery, placesOf } from "../src/map/query";
import { reasonOf } from "../src/map/reason";
import { boxOf, frameOf, panned, slotAt, whole, zoomed } from "../src/map/view";

describe("why a partition is missing", () => {
  const run = (status: string | null, created_at: string) => ({ run_id: "r", status, created_at });
  const [one, two] = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"];

  it.each([
    ["never", [], null, null],
    ["failed", [run("FAILURE", two), run("SUCCESS", one)], null, null],
    ["cancelled", [run("CANCELED", one)], null, null],
    ["underway", [run("STARTED", one)], null, null],
    ["nothing", [run("SUCCESS", one)], null, null],
    ["deleted", [run(null, one)], null, null],
    ["wiped", [run("SUCCESS", one)], one, two],
    ["failed", [run("FAILURE", two)], null, one],
    ["unreadable", [run("SUCCESS", one)], two, null],
  ])("%s", (kind, runs, materialized_at, wiped_at) => {
    expect(reasonOf({ partition_key: "k", runs, materialized_at, wiped_at }).kind).toBe(kind);
  });

  const keyed = (type: string, values: string[], key: string): Partitions => ({
    ...partitions(["CA", "2024-01-01"]),
    columns: [
      { name: "t", type, values },
      { name: "s", type: "string", values: values.map(() => "CA") },
    ],
    keyOf: () => key,
    length: values.length,
  });

  it("is asked for by the key that Dagster would give it", () => {
    const day = keyed("date32[day]", ["2024-01-01"], "CA|2024-01-01");
    const missing = (t: string | null) => new Map([["s", "NY"] as const, ["t", t] as const]);
    expect(partitionKey(day, missing("2024-01-03"))).toBe("NY|2024-01-03");
    expect(partitionKey(day, missing(null))).toBeNull();
    expect(partitionKey(day, new Map([["t", "2024-01-03"]]))).toBeNull();
    const hour = keyed("timestamp[us]", ["2024-01-01 00:00:00"], "CA|2024-01-01-00:00");
    expect(partitionKey(hour, missing("2024-01-01 05:00:00"))).toBe("NY|2024-01-01-05:00");
    expect(partitionKey(keyed("int64", ["1"], "CA|one"), missing("2"))).toBeNull();
  });
});

describe("an axis", () => {
  it("of days holds the days between that are missing", () => {
    expect(axis("date", "date32[day]", ["2024-02-28", "2024-03-01", "2024-02-27"]).slots).toEqual([
      "2024-02-27",
      "2024-02-28",
      "2024-02-29",
      "2024-03-01",
    ]);
  });

  it.each([
    ["weeks", "date32[day]", ["2024-01-07", "2024-01-28", "2024-01-14"], 4],
    ["months", "date32[day]", ["2024-01-01", "2024-06-01", "2024-02-01"], 6],
    ["hours", "timestamp[us]", ["2024-01-01 00:00:00", "2024-01-01 05:00:00", "2024-01-01 01:00:00"], 6],
    ["six hours", "timestamp[us]", ["2024-01-01 00:00:00", "2024-01-01 18:00:00", "2024-01-01 06:00:00"], 4],
    ["one day", "date32[day]", ["2024-01-01"], 1],
    ["no time that JavaScript knows", "date32[day]", ["day 99999999", "2024-01-01"], 2],
    ["days too far apart to fill", "date32[day]", ["0001-01-01", "9999-12-31"], 2],
  ])("of %s", (_, type, values, slots) => {
    expect(axis("t", type, values).slots.length).toBe(slots);
  });

  it("orders numbers as numbers, and puts NULL last", () => {
    expect(axis("n", "int64", ["10", null, "9"]).slots).toEqual(["9", "10", null]);
    expect(axis("s", "string", ["b", "", "a"]).slots).toEqual(["", "a", "b"]);
  });

  it("labels the beginnings of months where days are dense", () => {
    const days = axis("date", "date32[day]", ["2024-01-10", "2024-06-20", "2024-01-11"]);
    expect(ticks(days, 0, days.slots.length, 20).map((slot) => days.slots[slot])).toEqual([
      "2024-02-01",
      "2024-03-01",
      "2024-04-01",
      "2024-05-01",
      "2024-06-01",
    ]);
    expect(ticks(days, 0, 10, 5)).toEqual([0, 5]);
  });
});

function partitions(...cells: [state: string | null, date: string][]): Partitions {
  return {
    columns: [
      { name: "state", type: "string", values: cells.map(([state]) => state) },
      { name: "date", type: "date32[day]", values: cells.map(([, date]) => date) },
    ],
    keyOf: () => null,
    rows: Float64Array.from(cells, (_, index) => index + 1),
    bytes: Float64Array.from(cells, () => 10),
    materializedAt: Float64Array.from(cells, (_, index) => 1000 * index),
    runIdOf: () => null,
    length: cells.length,
  };
}

describe("a map", () => {
  const known = partitions(["CA", "2024-01-01"], ["CA", "2024-01-03"], ["TX", "2024-01-02"], [null, "2024-01-01"]);
  const map = partitionMap(known, 1, 0);

  it("has time along x and the other column along y", () => {
    expect(defaultAxes(known.columns)).toEqual({ x: 1, y: 0 });
    expect(map && [map.x.slots.length, map.y.slots]).toEqual([3, ["CA", "TX", null]]);
  });

  it("counts what is missing, and knows what is beside it", () => {
    expect(map?.holes).toBe(5);
    expect(map && neighbours(map, 1, 0)).toEqual({ before: 0, after: 2 });
    expect(map && neighbours(map, 0, 1)).toEqual({ before: null, after: 1 });
  });

  it("colours by what exists only", () => {
    expect(map && rangeOf(map, "rows")).toEqual({ low: 1, high: 4 });
  });

  it("adds up what falls on one cell", () => {
    const one = partitionMap(known, 1, null);
    expect([...(one?.rows ?? [])]).toEqual([5, 3, 2]);
  });

  it("is none where there would be too many cells", () => {
    const sparse = partitions(
      ...Array.from({ length: 3000 }, (_, index): [string, string] => [`s${index}`, `text ${index}`]),
    );
    sparse.columns = sparse.columns.map((column) => ({ ...column, type: "string" }));
    expect(partitionMap(sparse, 0, 1)).toBeNull();
  });

  it("turns a cell into a query of exactly its partition", () => {
    expect(map && partitionQuery("uat", "orgs", placesOf(map, { column: 2, row: 2 }))).toBe(
      "select *\nfrom uat.orgs\nwhere state is null\n  and date = date '2024-01-03'",
    );
  });

  it("turns a hole into a query of its neighbours", () => {
    const query = map && neighboursQuery("uat", "orgs", map.x, 0, 2, placesOf(map, { column: 1, row: 0 }).slice(0, -1));
    expect(query).toContain("where state = 'CA'\n  and date between date '2024-01-01' and date '2024-01-03'");
  });
});

describe("a view", () => {
  const frame = frameOf(100, 50, 40, { width: 1040, height: 526 });

  it("finds the slot under a point, and the point of a slot", () => {
    const view = whole(100, 50);
    const box = boxOf(view, frame, 7, 3);
    expect(slotAt(view, frame, box.left + 1, box.top + 1)).toEqual({ column: 7, row: 3 });
    expect(slotAt(view, frame, 5, 5)).toBeNull();
  });

  it("zooms around a slot and stays inside", () => {
    const view = zoomed(whole(100, 50), 100, 50, 4, 10, 3);
    expect(view).toEqual({ x0: 7.5, x1: 32.5, y0: 0, y1: 50 });
    expect(zoomed(view, 100, 50, 1 / 100, 10, 3)).toEqual(whole(100, 50));
    expect(panned(view, 100, 50, -1000, 0).x0).toBe(0);
    expect(panned(view, 100, 50, 1000, 0).x1).toBe(100);
  });
});

describe("places of a map that grows", () => {
  const days = (from: number, to: number): string[] =>
    Array.from({ length: to - from + 1 }, (_, step) => `2024-01-${String(from + step).padStart(2, "0")}`);
  const axes = (dates: string[], states: string[]): { x: Axis; y: Axis } => ({
    x: axis("date", "date32[day]", dates),
    y: axis("state", "string", states),
  });
  const old = axes(days(3, 20), ["CA", "NY"]);

  it("stay with their values, wherever the new ones are", () => {
    const grown = axes(days(1, 25), ["AK", "CA", "NY"]);
    expect(carriedSpot(old, grown, { column: 4, row: 1 })).toEqual({ column: 6, row: 2 });
    expect(carriedView(old, grown, { x0: 2.5, x1: 8.5, y0: 0, y1: 2 })).toEqual({ x0: 4.5, x1: 10.5, y0: 0, y1: 3 });
  });

  it("are gone with their values, or on other axes", () => {
    const shrunk = axes(days(10, 12), ["NY"]);
    expect(carriedSpot(old, shrunk, { column: 4, row: 1 })).toBeNull();
    expect(carriedSpot(old, { x: old.y, y: old.x }, { column: 1, row: 1 })).toBeNull();
    expect(carriedView(old, shrunk, { x0: 2, x1: 8, y0: 0, y1: 2 })).toEqual({ x0: 0, x1: 3, y0: 0, y1: 1 });
    expect(carriedView(old, shrunk, { x0: 8, x1: 16, y0: 0, y1: 2 })).toEqual({ x0: 0, x1: 3, y0: 0, y1: 1 });
  });
});
