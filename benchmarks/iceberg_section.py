"""The report's section on the clients of the service's Iceberg catalog."""

from collections.abc import Mapping
from typing import Any

from benchmarks.engines.iceberg import CLIENTS, QUERIES
from benchmarks.tables import seconds, table

Times = Mapping[str, Mapping[str, float]]


def through_iceberg(through: Times, warm: Times, findings: Mapping[str, Any]) -> str:
    """Write the section; it is empty if nothing was timed.

    Args:
        through: Seconds by client and query.
        warm: The same by engine, of those that list the folder.
        findings: What was measured besides.
    """
    if not through:
        return ""
    names = [query.name for query in QUERIES]
    body = []
    for client in (client for client in CLIENTS if client.name in through):
        beside = warm.get(client.lister.name, {})
        for title, times in ((client.name, through[client.name]), (f"beside {client.lister.name}", beside)):
            body.append([title, *(seconds(times.get(name)) for name in names)])
    clients = table(["client", *(name.replace("_", " ") for name in names)], body)
    setups = "\n".join(f"- **{client.name}**: {client.setup}" for client in CLIENTS if client.name in through)
    text = (
        "Clients of the service's Iceberg catalog, warm, beside an engine that lists the folder: the same client, or,"
        " of PyIceberg, the library that it reads with. Either way new partitions are seen."
    )
    return "\n\n".join(part for part in (text, clients, setups, _load_table(findings), _writers(findings)) if part)


def _load_table(findings: Mapping[str, Any]) -> str:
    body = [[name, seconds(s)] for name, s in findings.get("iceberg_load_table_s", {}).items()]
    return table(["a request for the table", "time"], body) if body else ""


def _writers(findings: Mapping[str, Any]) -> str:
    found = findings.get("iceberg_writers_s")
    if not found:
        return ""
    entries = findings["iceberg_entries"]
    text = (
        f"One manifest of {entries:,} entries, compressed alike. DagFusion's writer starts from the catalog's columns,"
        " the others from the entries as Python objects.\n\n"
    )
    body = [[name, seconds(s), f"{entries / s:,.0f}"] for name, s in found.items()]
    return text + table(["writer", "time", "entries a second"], body)
