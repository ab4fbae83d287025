import { describe, expect, it } from "vitest";
import { asOfIn, hashOf, linkedBy } from "../src/frame/address";

describe("a link", () => {
  it.each([
    ["#table=uat_a.b", { table: "uat_a.b", partition: null }],
    ["#table=uat_a.b&partition=2024-01-01%7CCA&more=1", { table: "uat_a.b", partition: "2024-01-01|CA" }],
    ["#table=uat_a.b&partition=a%2Bb%20c%26d%3De", { table: "uat_a.b", partition: "a+b c&d=e" }],
    ["#table=%E0%A4&partition=%", { table: "\ufffd", partition: "%" }],
    ["#partition=2024-01-01", null],
    ["#table=", null],
    ["#", null],
    ["", null],
    ["#results", null],
    [`#table=${"a".repeat(5_000)}`, null],
  ])("%s", (hash, expected) => {
    expect(linkedBy(hash)).toEqual(expected);
  });
});

describe("a time or an event id", () => {
  it.each([
    ["#as_of=4711", "4711"],
    ["#as_of=2024-01-15T12%3A00%3A00.5%2B01%3A00", "2024-01-15T12:00:00.5+01:00"],
    ["#as_of=2024-01-15 12:00", "2024-01-15 12:00"],
    ["#as_of=", null],
    ["#as_of=yesterday", null],
    [`#as_of=${"1".repeat(41)}`, null],
    ["#table=uat_a.b", null],
    ["", null],
  ])("%s", (hash, expected) => {
    expect(asOfIn(hash)).toBe(expected);
    if (expected !== null) expect(asOfIn(hashOf(expected))).toBe(expected);
  });

  it("is left out of the address if it is none", () => {
    expect([hashOf(""), hashOf("yesterday"), hashOf("<b>")]).toEqual(["", "", ""]);
  });
});
