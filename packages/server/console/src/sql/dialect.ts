/** DataFusion's SQL, as far as an editor has to know it: a column called `name` or `state` is not a keyword. */

import { SQLDialect } from "@codemirror/lang-sql";

export const FUNCTIONS =
  "count sum avg min max stddev median approx_distinct approx_percentile_cont array_agg string_agg first_value last_value " +
  "row_number rank dense_rank lag lead ntile coalesce nullif greatest least abs ceil floor round trunc sqrt power ln exp " +
  "date_trunc date_part date_bin to_date to_timestamp now current_date extract lower upper trim substr length replace " +
  "concat split_part starts_with regexp_like regexp_replace cast try_cast arrow_cast arrow_typeof unnest";

const SPEC = {
  keywords:
    "all and anti any as asc between by case cross cube current describe desc distinct else end escape except exclude exists " +
    "explain filter following from full group grouping having ilike in inner intersect interval into is join lateral left like " +
    "limit natural not nulls offset on or order outer over partition preceding qualify range recursive right rollup rows select " +
    "semi sets similar then to unbounded union using values when where window with within",
  types:
    "bigint boolean bytea char date decimal double float int integer numeric precision real smallint string text time timestamp " +
    "timestamptz tinyint unsigned varchar",
  builtin: FUNCTIONS,
  operatorChars: "*+-%<>!=&|^/~@",
  doubleDollarQuotedStrings: true,
  caseInsensitiveIdentifiers: true,
};

export const dataFusion = SQLDialect.define(SPEC);
/** The words alone: functions are offered as such. */
export const words = SQLDialect.define({ ...SPEC, builtin: "" });
