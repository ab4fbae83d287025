import { describe, expect, it } from "vitest";
import { linkedBy } from "../src/frame/address";

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
