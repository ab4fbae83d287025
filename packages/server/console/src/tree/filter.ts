/** The catalog as environments, schemas and tables, with only what a search finds. Pure. */

import type { Catalog, Environment, TableSummary } from "../api/types";

export interface SchemaNode {
  name: string;
  tables: TableSummary[];
}

export interface EnvironmentNode {
  environment: Environment;
  schemas: SchemaNode[];
  tables: number;
}

/** Return true unless the objects of the asset are not Parquet, such as pickles. */
export function isTable({ problem }: TableSummary): boolean {
  return problem?.code !== "not_parquet";
}

/** Every word of the search has to be somewhere in a table's names or partition columns. */
export function found({ environments, tables }: Catalog, search: string): EnvironmentNode[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const matching = tables.filter((table) => isTable(table) && words.every((word) => haystack(table).includes(word)));
  return environments
    .map((environment) => {
      const own = matching.filter((table) => table.environment === environment.name);
      const schemas = [...new Set(own.map(({ schema }) => schema))].sort();
      return {
        environment,
        tables: own.length,
        schemas: schemas.map((name) => ({
          name,
          tables: own.filter(({ schema }) => schema === name).sort((a, b) => a.name.localeCompare(b.name)),
        })),
      };
    })
    .filter(({ tables: count }) => words.length === 0 || count > 0);
}

function haystack({ environment, schema, name, asset_key, partition_columns }: TableSummary): string {
  return [environment, `${schema}.${name}`, ...asset_key, ...partition_columns].join(" ").toLowerCase();
}
