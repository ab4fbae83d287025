/** The documents of the HTTP API; a test compares their fields with the service's. */

export interface Problem {
  code: string;
  detail: string;
}

export interface Environment {
  name: string;
  generation: number;
  age_s: number | null;
  problem: Problem | null;
  dagster_url: string | null;
}

export interface TableSummary {
  environment: string;
  schema: string;
  name: string;
  kind: string;
  asset_key: string[];
  partition_columns: string[];
  partitions: number;
  rows: number;
  bytes: number;
  materialized_at: string | null;
  problem: Problem | null;
  warnings: number;
}

export interface Column {
  name: string;
  type: string;
  nullable: boolean;
  partition: boolean;
}

export interface TableDetail extends Omit<TableSummary, "warnings"> {
  columns: Column[];
  last_run_id: string | null;
  dagster_url: string | null;
  warnings: string[];
  files: number;
  /** Files whose rows are also in large objects. */
  consolidated: number;
  /** Many small files are in no such object. */
  would_gain: boolean;
  /** The statement of a view, and what it reads. */
  sql: string | null;
  reads: string[];
}

export interface Catalog {
  environments: Environment[];
  tables: TableSummary[];
}

/** The status is Dagster's, null of a deleted run. */
export interface Run {
  run_id: string;
  status: string | null;
  created_at: string | null;
}

/** What Dagster did about a table, or about one partition. */
export interface History {
  partition_key: string | null;
  /** The latest runs that were to materialize it, newest first. */
  runs: Run[];
  materialized_at: string | null;
  wiped_at: string | null;
}

export type EngineChoice = "local" | "spark" | "auto";

export interface Session {
  user: string;
  anonymous: boolean;
  everything: boolean;
  version: string;
  /** Of statements that choose none. */
  engine: EngineChoice;
  /** The service has a Spark Connect server. */
  spark: boolean;
}

export interface ScanStats {
  table: string;
  files_total: number;
  files_read: number;
  bytes_total: number;
  bytes_kept: number;
  /** Beside `files_total`: archived objects. */
  files_left_out: number;
}

export interface Stats {
  files_total: number;
  files_read: number;
  files_skipped: number;
  bytes_read: number;
  rows: number;
  result_bytes: number;
  requests: number | null;
  /** Added over the requests at once. */
  requests_s: number;
  /** Local copies that were there; 0 until the end. */
  copies_found: number;
  copies_fetched: number;
  queued_s: number;
  planning_s: number;
  first_batch_s: number;
  total_s: number;
  /** The catalog generation of each environment; of a query with `as_of`, the id of the event. */
  generations: Record<string, number>;
  path: string;
  /** Missing in the header `DagFusion-Stats`. */
  scans?: ScanStats[];
  truncated: boolean;
  /** Dagster runs that wrote the files; missing in the header, too. */
  runs?: string[];
  files_left_out: number;
  /** What the result leaves out, and why. */
  warnings: string[];
}

/** In US dollars. */
export interface QueryCost {
  requests_usd: number | null;
  worker_usd: number;
  prices_date: string;
}

export interface Failure {
  code: string;
  message: string;
  line?: number;
  column?: number;
  retry_after_s?: number;
}

export type QueryState = "queued" | "running" | "streaming" | "finished" | "failed" | "cancelled";

export interface QueryInfo {
  id: string;
  user: string;
  door: string;
  sql: string;
  state: QueryState;
  submitted_at: string;
  ended_at: string | null;
  as_of: string | null;
  stats: Stats;
  /** Null while it runs. */
  cost: QueryCost | null;
  error: Failure | null;
  /** Null while it runs, and if it was not traced. */
  trace_id: string | null;
}

export interface Filter {
  text: string;
  skipped: number;
  by: string;
}

export interface ExplainedScan extends ScanStats {
  filters: Filter[];
  partitions: (string | null)[];
  uris: string[];
  /** Partitions that are read from large objects, and the URIs of these. */
  consolidated: number;
  large_objects: string[];
  /** Where its objects are read: local copies that are there, what is fetched first, and objects in place. */
  copies_found: number;
  objects_to_fetch: number;
  blocks_to_fetch: number;
  objects_in_place: number;
}

export interface Explanation {
  path: string;
  scans: ExplainedScan[];
  logical: string;
  physical: string;
  generations: Record<string, number>;
}

export type DownloadFormat = "csv" | "parquet" | "arrow" | "json";
