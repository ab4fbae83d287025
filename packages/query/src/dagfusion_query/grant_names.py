"""The names by which grants, and settings that list tables, mean one table or many."""

from dagfusion_contract.naming import identifier
from dagfusion_query.settings import is_environment_name

EVERYTHING = "*"
REQUIREMENT = (
    "tables (uat_silver.orders), schemas (uat_silver.*), environments (uat) or *, by the names that they have in SQL"
)


def is_grant_name(name: str) -> bool:
    """Return True if a name can mean tables: it is `*`, an environment, a schema with `.*`, or a table.

    >>> [is_grant_name(name) for name in ("*", "uat", "uat_silver.*", "uat_silver.orders")]
    [True, True, True, True]
    >>> [is_grant_name(name) for name in ("", "uat.", "*.orders", "uat_silver.or*", "uat silver", "UAT", "a.b.c")]
    [False, False, False, False, False, False, False]
    """
    schema, dot, table = name.partition(".")
    if not dot:
        return name == EVERYTHING or is_environment_name(name)
    return identifier(schema) == schema and (table == EVERYTHING or identifier(table) == table)
