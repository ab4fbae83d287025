/** The cells of Arrow data as text and as numbers, exact: no time loses a digit, no decimal becomes a float. */

import { DataType, type Data, type Decimal, type Timestamp, TimeUnit, Type, Vector } from "apache-arrow";

const PER_SECOND = {
  [TimeUnit.SECOND]: 1n,
  [TimeUnit.MILLISECOND]: 1_000n,
  [TimeUnit.MICROSECOND]: 1_000_000n,
  [TimeUnit.NANOSECOND]: 1_000_000_000n,
};

/** A cell's text; null for NULL. */
export function cellText(data: Data, index: number): string | null {
  const value = cellValue(data, index);
  if (value === null) return null;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A cell as a number: a time as seconds since 1970; null for NULL and for what is no number. */
export function cellNumber(data: Data, index: number): number | null {
  if (!data.getValid(index)) return null;
  const { type } = data;
  if (DataType.isTimestamp(type)) return Number(data.values[index]) / Number(PER_SECOND[type.unit]);
  if (DataType.isDate(type)) return dateMs(data, index) / 1000;
  if (DataType.isInt(type)) return Number(data.values[index]);
  if (DataType.isFloat(type)) return Number(new Vector([data]).get(index));
  return DataType.isDecimal(type) ? Number(decimalText(data, index, type)) : null;
}

export function isNumeric(type: DataType): boolean {
  return DataType.isInt(type) || DataType.isFloat(type) || DataType.isDecimal(type);
}

export function isTemporal(type: DataType): boolean {
  return DataType.isTimestamp(type) || DataType.isDate(type);
}

/** A type's name, as DataFusion's users know it. */
export function typeName(type: DataType): string {
  const own = String(type).toLowerCase();
  if (/^(large)?utf8(view)?$/.test(own)) return "string";
  if (/^(large)?binary(view)?$/.test(own)) return "binary";
  if (DataType.isDecimal(type)) return `decimal(${type.precision}, ${type.scale})`;
  if (DataType.isDate(type)) return "date";
  if (DataType.isFloat(type)) return `float${[16, 32, 64][type.precision]}`;
  if (DataType.isInt(type)) return `${type.isSigned ? "" : "u"}int${type.bitWidth}`;
  if (DataType.isTimestamp(type))
    return type.timezone ? `timestamp(${unitName(type.unit)}, ${type.timezone})` : `timestamp(${unitName(type.unit)})`;
  if (DataType.isTime(type)) return `time(${unitName(type.unit)})`;
  if (DataType.isDuration(type)) return `duration(${unitName(type.unit)})`;
  if (DataType.isInterval(type)) return "interval";
  if (DataType.isMap(type)) return `map<${typeName(type.keyType)}, ${typeName(type.valueType)}>`;
  if (DataType.isList(type) || DataType.isLargeList(type) || DataType.isFixedSizeList(type))
    return `list<${typeName(type.children[0]?.type as DataType)}>`;
  if (DataType.isStruct(type)) return `struct<${type.children.map(({ name }) => name).join(", ")}>`;
  if (DataType.isDictionary(type)) return typeName(type.dictionary as DataType);
  return own;
}

function unitName(unit: TimeUnit): string {
  return ["s", "ms", "us", "ns"][unit] ?? "";
}

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

function cellValue(data: Data, index: number): Json {
  if (!data.getValid(index)) return null;
  const { type } = data;
  if (DataType.isTimestamp(type)) return timestampText(BigInt(data.values[index] as bigint), type);
  if (DataType.isDate(type)) return new Date(dateMs(data, index)).toISOString().slice(0, 10);
  if (DataType.isTime(type)) return clock(BigInt(data.values[index] as number), PER_SECOND[type.unit]);
  if (DataType.isDecimal(type)) return decimalText(data, index, type);
  if (DataType.isDuration(type)) return durationText(BigInt(data.values[index] as number), PER_SECOND[type.unit]);
  if (DataType.isInterval(type)) return intervalText(data, index);
  if (DataType.isList(type) || DataType.isLargeList(type)) return listOf(data, data.valueOffsets, index);
  if (DataType.isStruct(type)) return structOf(data, index);
  if (DataType.isMap(type)) return listOf(data, data.valueOffsets, index);
  return plain(new Vector([data]).get(index));
}

function plain(value: unknown): Json {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (typeof value === "number") return Number.isFinite(value) && !Object.is(value, -0) ? value : numberText(value);
  if (typeof value === "string" || typeof value === "boolean" || value === null) return value;
  if (value instanceof Uint8Array)
    return `\\x${Array.from(value, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  if (value instanceof Vector) return [...value].map(plain);
  return String(value);
}

/** What JSON has no number for. */
function numberText(value: number): string {
  return Object.is(value, -0) ? "-0" : String(value);
}

function listOf(data: Data, offsets: ArrayLike<number | bigint>, index: number): Json[] {
  const from = Number(offsets[index]);
  const child = data.children[0] as Data;
  return Array.from({ length: Number(offsets[index + 1]) - from }, (_, place) => cellValue(child, from + place));
}

function structOf(data: Data, index: number): Json {
  return Object.fromEntries(
    data.type.children.map(({ name }: { name: string }, place: number) => [
      name,
      cellValue(data.children[place] as Data, index),
    ]),
  );
}

function dateMs(data: Data, index: number): number {
  return data.typeId === Type.Date && data.values instanceof Int32Array
    ? (data.values[index] ?? 0) * 86_400_000
    : Number(data.values[index]);
}

function timestampText(value: bigint, type: Timestamp): string {
  const per = PER_SECOND[type.unit as keyof typeof PER_SECOND];
  const day = 86_400n * per;
  const inDay = ((value % day) + day) % day;
  const days = Number((value - inDay) / day);
  const date = new Date(days * 86_400_000);
  const text = Number.isNaN(date.getTime()) ? `day ${days}` : date.toISOString().slice(0, -14);
  return `${text} ${clock(inDay, per)}${type.timezone ? "Z" : ""}`;
}

function clock(value: bigint, per: bigint): string {
  const seconds = value / per;
  const parts = [seconds / 3600n, (seconds / 60n) % 60n, seconds % 60n];
  return parts.map((part) => String(part).padStart(2, "0")).join(":") + fraction(value % per, per);
}

function fraction(value: bigint, per: bigint): string {
  if (value === 0n) return "";
  return `.${String(value)
    .padStart(String(per).length - 1, "0")
    .replace(/0+$/, "")}`;
}

function durationText(value: bigint, per: bigint): string {
  const size = value < 0n ? -value : value;
  return `${value < 0n ? "-" : ""}${clock(size, per)}`;
}

/** Months, days and a time, as far as they are not nothing. */
function intervalText(data: Data, index: number): string {
  const parts = Array.from(new Vector([data]).get(index) as Int32Array);
  const [months, days, rest] =
    parts.length === 4
      ? [parts[0], parts[1], nanos(parts)]
      : data.stride === 2
        ? [0, parts[0], BigInt(parts[1] ?? 0) * 1_000_000n]
        : [(parts[0] ?? 0) * 12 + (parts[1] ?? 0), 0, 0n];
  const texts = [
    unit(months ?? 0, "month"),
    unit(days ?? 0, "day"),
    rest === 0n ? "" : durationText(rest, PER_SECOND[TimeUnit.NANOSECOND]),
  ];
  return texts.filter((text) => text !== "").join(" ") || "0 days";
}

function nanos(parts: readonly number[]): bigint {
  return new BigInt64Array(Int32Array.from(parts.slice(2)).buffer)[0] ?? 0n;
}

function unit(value: number, name: string): string {
  return value === 0 ? "" : `${value} ${name}${Math.abs(value) === 1 ? "" : "s"}`;
}

function decimalText(data: Data, index: number, type: Decimal): string {
  const words = (data.values as Uint32Array).subarray(index * data.stride, (index + 1) * data.stride);
  const raw = words.reduceRight((sum, word) => (sum << 32n) | BigInt(word), 0n);
  const value = BigInt.asIntN(words.length * 32, raw);
  const digits = String(value < 0n ? -value : value).padStart(type.scale + 1, "0");
  const point = digits.length - type.scale;
  return `${value < 0n ? "-" : ""}${digits.slice(0, point)}${type.scale > 0 ? `.${digits.slice(point)}` : ""}`;
}
