import {
  Binary,
  Int64,
  RecordBatch,
  Schema,
  Struct,
  Table,
  TimestampNanosecond,
  Utf8,
  makeData,
  tableFromArrays,
  vectorFromArray,
} from "apache-arrow";
import { describe, expect, it } from "vitest";
import { EndWatch } from "../src/api/stream";
import { guess } from "../src/chart/guess";
import { fitting, layout, visible } from "../src/grid/columns";
import { TALLEST, at, moved as scrolled } from "../src/grid/scroll";
import { moved, rectangle, toTsv } from "../src/grid/selection";
import { cellText } from "../src/grid/values";
import { Rows } from "../src/state/rows";

function rowsOf(table: Table): Rows {
  const rows = new Rows(table.schema);
  for (const batch of table.batches) rows.add(batch);
  return rows;
}

function text(rows: Rows, row: number, column: number): string | null {
  const { data, index } = rows.at(row, column);
  return cellText(data, index);
}

describe("rows", () => {
  it("are found over many batches", () => {
    const batch = (from: number): RecordBatch =>
      tableFromArrays({ id: Int32Array.of(from, from + 1, from + 2) }).batches[0] as RecordBatch;
    const rows = new Rows(batch(0).schema);
    for (const from of [0, 3, 6]) rows.add(batch(from));
    expect([0, 2, 3, 8].map((row) => text(rows, row, 0))).toEqual(["0", "2", "3", "8"]);
    expect(rows.length).toBe(9);
  });
});

describe("values", () => {
  it("keep every digit", () => {
    const big = rowsOf(new Table({ n: vectorFromArray([9_007_199_254_740_993n], new Int64()) }));
    expect(text(big, 0, 0)).toBe("9007199254740993");
    const time = makeData({
      type: new TimestampNanosecond(),
      length: 2,
      nullCount: 0,
      data: BigInt64Array.of(1_705_321_805_123_456_789n, -1n),
    });
    expect([cellText(time, 0), cellText(time, 1)]).toEqual([
      "2024-01-15 12:30:05.123456789",
      "1969-12-31 23:59:59.999999999",
    ]);
  });

  it("tell NULL from empty, and show bytes as hexadecimal digits", () => {
    const rows = rowsOf(
      new Table({
        a: vectorFromArray(["", null], new Utf8()),
        b: vectorFromArray([Uint8Array.of(1, 255), null], new Binary()),
      }),
    );
    expect([text(rows, 0, 0), text(rows, 1, 0)]).toEqual(["", null]);
    expect(text(rows, 0, 1)).toBe("\\x01ff");
  });

  it("show what is nested as JSON", () => {
    const schema = new Schema(tableFromArrays({ a: Int32Array.of(1) }).schema.fields);
    const struct = makeData({
      type: new Struct(schema.fields),
      children: [makeData({ type: schema.fields[0]?.type, length: 1, nullCount: 0, data: Int32Array.of(7) })],
    });
    expect(cellText(struct, 0)).toBe('{"a":7}');
  });
});

describe("a selection", () => {
  const rows = rowsOf(
    new Table({
      a: vectorFromArray(["x\ty", null, 'q"'], new Utf8()),
      b: vectorFromArray(["1", "2", "3"], new Utf8()),
    }),
  );

  it("is copied as tab-separated values", () => {
    const area = rectangle({ anchor: { row: 2, column: 1 }, cursor: { row: 0, column: 0 } });
    expect(toTsv(rows, area)).toBe('"x\ty"\t1\n\t2\n"q"""\t3');
  });

  it("moves with keys and stays inside", () => {
    const cursor = { row: 5, column: 1 };
    expect(moved(cursor, "ArrowDown", false, 10, 100, 3)).toEqual({ row: 6, column: 1 });
    expect(moved(cursor, "ArrowDown", true, 10, 100, 3)).toEqual({ row: 99, column: 1 });
    expect(moved(cursor, "PageUp", false, 10, 100, 3)).toEqual({ row: 0, column: 1 });
    expect(moved(cursor, "End", true, 10, 100, 3)).toEqual({ row: 99, column: 2 });
    expect(moved(cursor, "x", false, 10, 100, 3)).toBeNull();
  });
});

describe("scrolling", () => {
  const [content, view] = [26_000_000, 500];

  it("is plain while the rows fit an element", () => {
    expect(scrolled({ top: 0, bar: 0 }, 120, 5000, view)).toEqual({ top: 120, bar: 120 });
  });

  it("moves by pixels for a wheel, and in proportion for the scrollbar", () => {
    const start = at(1_000_000, content, view);
    expect(scrolled(start, start.bar + 100, content, view).top).toBe(1_000_100);
    expect(scrolled(start, TALLEST / 2, content, view).top / content).toBeCloseTo(0.5, 2);
  });

  it("reaches both ends", () => {
    expect(scrolled(at(900, content, view), 0, content, view).top).toBe(0);
    expect(scrolled(at(content - 5000, content, view), TALLEST - view, content, view).top).toBe(content - view);
    expect(at(Number.MAX_SAFE_INTEGER, content, view)).toEqual({ top: content - view, bar: TALLEST - view });
  });
});

describe("columns", () => {
  it("are drawn where they are seen", () => {
    const columns = layout(Array.from({ length: 100 }, () => 100));
    expect(visible(columns, 250, 300)).toEqual({ first: 2, end: 6 });
    expect(visible(columns, 9_900, 300)).toEqual({ first: 99, end: 100 });
    expect(visible(layout([]), 0, 300)).toEqual({ first: 0, end: 0 });
    expect(fitting(["x".repeat(500)])).toBe(360);
  });
});

describe("a stream's end", () => {
  const marker = [255, 255, 255, 255, 0, 0, 0, 0];

  it("is its marker, however the chunks are cut", () => {
    const whole = new EndWatch();
    for (const byte of [1, 2, ...marker]) whole.remember(Uint8Array.of(byte));
    expect(whole.ended).toBe(true);
    whole.remember(Uint8Array.of(9));
    expect(whole.ended).toBe(false);
  });
});

describe("the first chart", () => {
  it.each([
    [
      "time and texts",
      [
        ["day", "time", 9],
        ["state", "text", 3],
        ["name", "text", 90],
        ["npi", "number", 9],
        ["score", "number", 9],
      ],
      { mark: "line", x: 0, y: 4, series: 1 },
    ],
    [
      "text and number",
      [
        ["state", "text", 3],
        ["n", "number", 3],
      ],
      { mark: "bar", x: 0, y: 1, series: null },
    ],
    [
      "two numbers",
      [
        ["a", "number", 3],
        ["b", "number", 3],
      ],
      { mark: "scatter", x: 0, y: 1, series: null },
    ],
    ["no number", [["a", "text", 3]], null],
  ] as const)("of %s", (_, columns, choice) => {
    expect(guess(columns.map(([name, kind, distinct]) => ({ name, kind, distinct })))).toEqual(choice);
  });
});
