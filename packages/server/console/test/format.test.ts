import { expect, test } from "vitest";
import { dollars } from "../src/ui/format";

test.each([
  [0, "$0.00"],
  [1.239, "$1.24"],
  [0.01, "$0.01"],
  [0.00456, "$0.0046"],
  [0.0000123, "$0.000012"],
  [1e-9, "<$0.000001"],
])("a price of %d", (value, text) => {
  expect(dollars(value)).toBe(text);
});
