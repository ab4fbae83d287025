"""Where a Delta log can be, and the paths of objects in it. Pure."""

import re
from urllib.parse import quote

import pyarrow.compute as pc

from dagfusion_client.errors import SettingsError
from dagfusion_contract.layout import escape, file_key
from dagfusion_contract.record import FOREIGN
from dagfusion_contract.uri import is_folder, object_path, store_url
from dagfusion_query.catalog.model import Snapshot, Table

_SAFE = "/="  # of what is not a letter, a digit or one of `-._~`
_SUFFIX = re.compile(r"(-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-\d+)?)?\.parquet$")


def default_location(table: Table) -> str:
    """Return the folder of a table's asset, `{prefix}/{asset key}/`: its objects are in there, or one is beside it.

    Raises:
        SettingsError: They are elsewhere, or the asset's key has a character that readers do not take in a folder.
    """
    folder = file_key("", table.asset_key, None, None).removesuffix(".parquet")
    found = {_folder_of(uri, folder, len(table.partition_schema)) for uri in table.files["uri"].to_pylist()}
    is_foreign = pc.any(pc.starts_with(table.files["schema_fingerprint"], FOREIGN)).as_py()
    if is_foreign or len(found) != 1 or None in found:
        raise SettingsError(
            f"the objects of table {table.name} are not all in the one folder that the IO managers have for its asset: "
            "give --location, a folder for its Delta log, in which no other table has one"
        )
    location = str(found.pop())
    if not is_folder(location.rstrip("/"), ("s3", "file")):
        raise SettingsError(
            f"the folder of table {table.name} has one of the characters ?, # and %, which readers of Delta take in "
            f"different ways, got {location!r}: give --location, a folder for its Delta log without them"
        )
    return location


def check_location(location: str, snapshot: Snapshot) -> None:
    """Raise an error for a folder that an event of another IO manager may name.

    With a Delta log in it, discovery would not read the folder any more. A record has the files of such a folder, but
    not its name: it may be any folder that has the files of one event.

    Args:
        location: The URI of a folder for a log, with a slash at its end.
        snapshot: The catalog.

    Raises:
        SettingsError: The folder has files of just one event of an asset.
    """
    for asset_key, asset in snapshot.asset_states.items():
        foreign = [one for one in asset.segments if one.layout.fingerprint.startswith(FOREIGN)]
        rows = [rows for segment in foreign for rows in segment.live()]
        inside = (one["event_id"].filter(pc.starts_with(one["uri"], location)).to_pylist() for one in rows)
        if len({event for events in inside for event in events}) == 1:
            raise SettingsError(
                f"a Delta log in {location} could hide the files there that an event of asset {'/'.join(asset_key)} "
                "names: another IO manager wrote them, and its folders are not read if they have a Delta log: give a "
                "--location without files"
            )


def delta_path(uri: str, location: str) -> str:
    """Return the path of an object in a log: a relative one if the object is in the table's folder.

    >>> delta_path("s3://lake/orgs/city=a%2Fb/data.parquet", "s3://lake/orgs/")
    'city=a%252Fb/data.parquet'
    >>> delta_path("s3://lake/orgs.parquet", "s3://lake/orgs/")
    's3://lake/orgs.parquet'
    """
    if uri.startswith(location):
        return quote(uri[len(location) :], safe=_SAFE)
    return store_url(uri) + quote(object_path(uri), safe=_SAFE)


def has_hive_paths(table: Table) -> bool:
    """Return True if the path of each object has a folder `column=value` for each partition column."""
    uris = table.files["uri"]
    return all(pc.all(pc.match_substring(uris, f"/{escape(name)}=")).as_py() for name in table.partition_schema.names)


def _folder_of(uri: str, folder: str, columns: int) -> str | None:
    """Return the folder of an asset by one of its objects, or None if the object is elsewhere."""
    key = object_path(uri)
    beside = [] if columns else [_SUFFIX.sub("", key)]
    above = ["/".join(key.split("/")[:-depth]) for depth in (columns + 1, 1)]
    for parent in (*beside, *above):
        if parent == folder or parent.endswith(f"/{folder}"):
            return f"{store_url(uri)}{parent}/"
    return None
