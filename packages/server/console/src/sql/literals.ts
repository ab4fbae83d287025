/** Names and values as SQL text. Pure. */

const PLAIN = /^[a-z_][a-z0-9_]*$/;
const NUMBER = /^(?:u?int(?:8|16|32|64)|halffloat|float|double|decimal\d*\(.*\))$/;

export function quoteName(name: string): string {
  return PLAIN.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** A value of an Arrow type, of which `text` is the canonical text, as a typed literal. */
export function literal(type: string, text: string): string {
  if (NUMBER.test(type) || type === "bool") return text;
  if (type.startsWith("date32") || type.startsWith("date64")) return `date ${quoteText(text)}`;
  const zoned = /^timestamp\[(s|ms|us|ns), tz=(.+)\]$/.exec(type);
  if (zoned !== null)
    return `arrow_cast(${quoteText(text)}, ${quoteText(arrowTimestamp(zoned[1] ?? "us", zoned[2] ?? ""))})`;
  if (type.startsWith("timestamp")) return `timestamp ${quoteText(text)}`;
  return quoteText(text);
}

/** One column equal to a value; of a NULL partition, the column being NULL. */
export function equals(column: string, type: string, text: string | null): string {
  return text === null ? `${quoteName(column)} is null` : `${quoteName(column)} = ${literal(type, text)}`;
}

function arrowTimestamp(unit: string, zone: string): string {
  const units: Record<string, string> = { s: "Second", ms: "Millisecond", us: "Microsecond", ns: "Nanosecond" };
  return `Timestamp(${units[unit] ?? "Microsecond"}, Some("${zone}"))`;
}
