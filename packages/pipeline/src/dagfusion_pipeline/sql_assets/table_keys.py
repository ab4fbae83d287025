"""Which asset a table's name in SQL means."""

from collections.abc import Iterable, Sequence

import dagster as dg

from dagfusion_contract.naming import identifier, table_name
from dagfusion_pipeline.errors import SqlError
from dagfusion_pipeline.sql_assets.statement import Reference

_DEFAULT = "default"  # the schema of keys with one component, after the environment
_SHOWN = 5


def names_of(key: dg.AssetKey, environments: Iterable[str]) -> set[Reference]:
    """Return the names that a statement can use for the table of an asset.

    They are the contract's name with an environment or without, and the key in quotes.

    >>> sorted(map(str, names_of(dg.AssetKey(["Silver", "orgs"]), ["uat"])))
    ['Silver.orgs', 'Silver/orgs', 'silver.orgs', 'uat_silver.orgs']
    """
    *folders, table = key.path
    names = {Reference(*table_name(environment, key.path)) for environment in environments}
    names |= {Reference(_schema(folders), identifier(table)), _short_name(key), Reference(None, key.to_user_string())}
    if len(folders) == 1:
        names.add(Reference(folders[0], table))
    return names


def find_key(
    reference: Reference,
    known: Sequence[dg.AssetKey],
    environments: Sequence[str],
    asset: str,
    *,
    is_complete: bool = False,
) -> dg.AssetKey:
    """Return the asset that a name means: one of the known, else the one whose key has the words of the name.

    Args:
        reference: The name.
        known: The assets that are known.
        environments: The words that may begin a schema.
        asset: The asset with the SQL, for messages.
        is_complete: Whether the known assets are all that there are.

    Raises:
        SqlError: The name means no asset, or several.
    """
    found = [key for key in known if reference in names_of(key, environments)]
    if len(found) > 1:
        listed = " and ".join(repr(key.to_user_string()) for key in found)
        raise SqlError(
            f"the SQL of asset {asset!r} names the table {str(reference)!r}, which is that of the assets {listed}:"
            " write the asset's key in double quotes"
        )
    if found:
        return found[0]
    if is_complete:
        raise SqlError(
            f"the SQL of asset {asset!r} names the table {str(reference)!r}, which is of none of its assets;"
            f" their tables are {_listed(known)}: correct the name, or add the asset"
        )
    return _key_of_words(reference, environments)


def _key_of_words(reference: Reference, environments: Sequence[str]) -> dg.AssetKey:
    schema, table = reference
    if schema is None:
        return dg.AssetKey.from_user_string(table)
    prefixes = [f"{identifier(environment)}_" for environment in environments]
    schema = next((schema.removeprefix(prefix) for prefix in prefixes if schema.startswith(prefix)), schema)
    return dg.AssetKey([table] if schema == _DEFAULT else [schema, table])


def _listed(keys: Sequence[dg.AssetKey]) -> str:
    names = sorted(str(_short_name(key)) for key in keys)
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN]) or 'none'}{more}"


def _short_name(key: dg.AssetKey) -> Reference:
    *folders, table = key.path
    return Reference(_schema(folders) if folders else None, identifier(table))


def _schema(folders: Sequence[str]) -> str:
    return identifier("_".join(identifier(part) for part in folders or [_DEFAULT]))
