"""Template folders: what DataFusion lists instead of the bucket while it plans.

A table is registered over an empty folder. While a query is planned, each scan gets a folder of its own (a slot), so
that a table named twice stays two scans, with as many witness files as the scan shall have file groups.
"""

import re
import shutil
import tempfile
import weakref
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from dagfusion_query.errors import SettingsError

_WITNESS = b"PAR1"  # never read: the splice replaces it
# What a URL of DataFusion has as it is. A URL that differs from DataFusion's would leave a table empty.
_UNQUOTED = "/!$&'()+,:;=@]^|~"
_GLOB = re.compile(r"[*?\[]")
_VALUES = {"string": "w", "large_string": "w", "binary": "w", "bool": "false", "date32[day]": "1970-01-01"}


class Template:
    """The template folders of one table.

    Args:
        folder: A folder that is this table's alone.
        partition_schema: The partition columns in path order.
    """

    def __init__(self, folder: Path, partition_schema: pa.Schema) -> None:
        self.folder = folder
        self._leaf = Path(*(f"{f.name}={_witness_value(f.type)}" for f in partition_schema))
        self._ready: set[tuple[int, int]] = set()

    @property
    def home(self) -> str:
        """The empty folder that the table is registered over, with a slash at its end."""
        return self.path(0, 0)

    def path(self, slot: int, groups: int) -> str:
        """Return the folder for a scan in `slot` with `groups` file groups, with a slash at its end."""
        folder = self.folder / f"s{slot}" / f"k{groups}"
        if (slot, groups) not in self._ready:
            # A missing template would be an empty table: a wrong answer, not an error. So it is complete before it is
            # known.
            leaf = folder / self._leaf
            leaf.mkdir(parents=True, exist_ok=True)
            for i in range(groups):
                (leaf / f"{i}.parquet").write_bytes(_WITNESS)
            self._ready.add((slot, groups))
        return f"{folder}/"


class Scratch:
    """A temporary folder for the templates of one session, removed with it.

    Raises:
        SettingsError: DataFusion would read the folder's name as a pattern.
    """

    def __init__(self) -> None:
        if _GLOB.search(str(Path(tempfile.gettempdir()).resolve())):
            raise SettingsError(
                f"the folder for temporary files must not have *, ? or [ in its path, got {tempfile.gettempdir()}: set "
                "TMPDIR to another"
            )
        self.path = Path(tempfile.mkdtemp(prefix="dagfusion-")).resolve()
        # Queries of an older generation may hold the session for a while: the folder goes after the last of them.
        self.close = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def template(self, number: int, partition_schema: pa.Schema) -> Template:
        """Return the template of table `number`."""
        return Template(self.path / str(number), partition_schema)


def folder_url(path: str) -> str:
    """Return the URL that DataFusion's logical plan holds for a local folder."""
    return f"file://{quote(path, safe=_UNQUOTED)}"


def _witness_value(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return quote("1970-01-01T00:00:00", safe="")
    return _VALUES.get(str(kind), "0")
