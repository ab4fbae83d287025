import { describe, expect, it } from "vitest";
import type { TableSummary } from "../src/api/types";
import { mentions, suggest } from "../src/sql/completion";
import { equals, literal, quoteName } from "../src/sql/literals";
import { nameLength, offsetOf, statementAt, statements } from "../src/sql/statements";

describe("the length of a name", () => {
  it.each([
    ["naem, x", 4],
    ["o.nam from", 5],
    ['"a b"."c" x', 9],
    ["größe)", 5],
    ["= 1", 1],
    ["", 1],
  ])("%s", (text, length) => {
    expect(nameLength(text)).toBe(length);
  });
});

describe("statements", () => {
  it("end at semicolons outside of strings, names and comments", () => {
    const text = "select ';' as \"a;b\"; -- ; not here\n/* ; nor here */ select $$;$$ ;\n\n;";
    expect(statements(text).map(({ sql }) => sql)).toEqual([
      "select ';' as \"a;b\"",
      "-- ; not here\n/* ; nor here */ select $$;$$",
    ]);
  });

  it("take an open string to the end of the text", () => {
    expect(statements("select 'a; b").map(({ sql }) => sql)).toEqual(["select 'a; b"]);
  });

  it.each([
    [0, "select 1"],
    [8, "select 1"],
    [10, "select 2"],
    [19, "select 2"],
  ])("at %i is %s", (place, sql) => {
    expect(statementAt("select 1; select 2", place, place)?.sql).toBe(sql);
  });

  it("is the selection, if there is one", () => {
    expect(statementAt("select 1 + 2", 7, 12)).toEqual({ sql: "1 + 2", from: 7 });
    expect(statementAt("select  1", 6, 8)).toBeNull();
  });

  it("maps a line and a column of a later statement into the text", () => {
    const text = "select 1;\nselect\n  x y";
    const statement = statementAt(text, text.length, text.length);
    expect(statement && text.slice(offsetOf(statement, { line: 2, column: 5 }))).toBe("y");
    expect(statement && offsetOf(statement, { line: 99, column: 99 })).toBe(text.length);
  });
});

describe("literals", () => {
  it.each([
    ["string", "O'Hare", "'O''Hare'"],
    ["date32[day]", "2024-01-15", "date '2024-01-15'"],
    ["timestamp[us]", "2024-01-15 06:00:00", "timestamp '2024-01-15 06:00:00'"],
    [
      "timestamp[us, tz=UTC]",
      "2024-01-15 06:00:00Z",
      "arrow_cast('2024-01-15 06:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))')",
    ],
    ["int64", "-3", "-3"],
    ["decimal128(12, 2)", "1.50", "1.50"],
    ["bool", "true", "true"],
  ])("of %s", (type, text, sql) => {
    expect(literal(type, text)).toBe(sql);
  });

  it("know NULL partitions, and names that need quotes", () => {
    expect(equals("state", "string", null)).toBe("state is null");
    expect(equals('A "b"', "int64", "1")).toBe('"A ""b""" = 1');
    expect(quoteName("tax_id")).toBe("tax_id");
  });
});

describe("completion", () => {
  const table = { schema: "uat_silver", name: "orgs", partitions: 3 } as TableSummary;
  const columns = [
    { name: "state", type: "string", nullable: true, partition: true },
    { name: "Odd name", type: "int64", nullable: true, partition: false },
  ];
  const labels = (text: string, place = text.length): string[] =>
    suggest(text, place, [table], () => columns)?.options.map(({ label }) => label) ?? [];

  it("finds mentioned tables and their aliases", () => {
    expect(mentions('select * from a.b x join "C d".e as y on true, f.g where 1')).toEqual([
      { schema: "a", table: "b", alias: "x" },
      { schema: "C d", table: "e", alias: "y" },
      { schema: "f", table: "g", alias: null },
    ]);
    expect(mentions("select * from a.b where x")[0]?.alias).toBeNull();
  });

  it("offers tables after from, and a schema's tables after its name", () => {
    expect(labels("select * from u")).toEqual(["uat_silver", "uat_silver.orgs"]);
    expect(labels("select * from uat_silver.o")).toEqual(["orgs"]);
    expect(labels("select * from a.b, u")).toEqual(["uat_silver", "uat_silver.orgs"]);
    expect(labels("select * from uat_silver.orgs order by x, s")).toContain("state");
  });

  it("offers the columns of mentioned tables, quoted where they must be", () => {
    const found = suggest("select  from uat_silver.orgs o", 7, [table], () => columns);
    expect(found?.from).toBe(7);
    expect(found?.options.slice(0, 3).map(({ apply }) => apply)).toEqual(["state", '"Odd name"', "o"]);
    expect(labels("select o. from uat_silver.orgs o", 9)).toEqual(["state", "Odd name"]);
  });
});
