"""Decides what a caller may be shown: which errors, what of plans and URIs of a statement, and warnings of a catalog.

Errors of settings, event logs and snapshots are for the operator, as are errors that are no `QueryError`: every
door sends `for_clients(error)` in place of an error, and `unavailable` in place of one that ends an environment.

A plan has the names of objects and tables in place of the paths of local files, also in the embedded engine. What a
service shows has neither its folders, nor where its stores are, nor their keys. Its workers redact what belongs to a
statement, and the service itself the warnings.

A text that only this service and its libraries have written is searched for the secrets themselves. A text that may
hold a caller's words (an error of a statement, a plan) is not: a caller who writes or computes a guess would learn
from it whether the guess is right. There, what the engine says is known by its form, whatever the values are: a path of
a local copy by its position in the text and by its end.
"""

import logging
import re
import secrets
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from dagfusion_client.documents.query_documents import ExplanationDocument
from dagfusion_client.errors import (
    ArchivedObjectError,
    EnvironmentUnavailableError,
    EventLogError,
    EventLogLocationError,
    EventLogSchemaError,
    EventLogUnavailableError,
    ExecutionError,
    InternalError,
    QueryError,
    SettingsError,
    SnapshotError,
    StaleObjectError,
    StatementError,
    StoreUnavailableError,
    UnsupportedTypeError,
)
from dagfusion_client.returned_values import Explanation
from dagfusion_client.secrets_manager import SECRETS
from dagfusion_contract.secret_reference import is_reference
from dagfusion_query.settings import Settings

_log = logging.getLogger(__name__)

# Their texts are for the operator, because they name settings, hosts and paths.
_PRIVATE = (SettingsError, EventLogError, SnapshotError)
# The reason of an environment's outage that a caller may know, by the error.
_REASONS: Sequence[tuple[type[QueryError], str]] = (
    (EventLogUnavailableError, "its Dagster database does not answer"),
    (EventLogLocationError, "its event log is not where the service's configuration says"),
    (EventLogSchemaError, "its database is not one of Dagster's, or may not be read"),
    (SnapshotError, "its catalog cannot be written to the service's state folder"),
)
_SOURCE = re.compile(r"(?:/[\w.@+-]+)+/[\w.-]+\.(?:rs|py)(?::\d+)*")  # of this program or of a library
_TRACE = re.compile(r"(?<!\n)\n*(?:stack backtrace:|backtrace:|Traceback \(most recent call last\):).*", re.DOTALL)
_BUG = re.compile(r"(?<!\s)\s*This issue was likely caused by a bug in DataFusion's code\..*", re.DOTALL)
_QUOTED_FILE = re.compile(r"""(['"])file:///(?:(?!\1).)*?((?:(?!\1)[^/])*/?)\1""")  # as messages quote it
# Callers may write long texts: each pattern below begins where a word does, so that the search takes linear time.
_PLACED_SOURCE = re.compile(r"(?<![\w.@+/-])[\w.@+-]*(?:/[\w.@+-]+)*/[\w.-]+\.(?:rs|py)(?::\d+)+")
# Whole errors of an object store or of the file system: nothing that a caller controls comes before these words.
_STORE = re.compile(
    r"(?:(?:DataFusion|Object Store|ObjectStore|Arrow|Parquet|External|IO|Execution|Shared) ?(?:error)?: |"
    r"ParquetError: )*"
    r"(?:(?:Object Store|IO) error: |Generic \w+ error|Object at location |The operation lacked |Error performing )"
)
_SCRATCH = re.compile(  # files of a session, or of one statement, in the folder for temporary files
    r"(?<![^\s,()\[\]{}'\"=])[^\s,()\[\]{}'\"=]*?dagfusion-[a-z0-9_]{8}/(?:\d+/s\d+/k\d+|information_schema/\w+\.arrow|\d+\.arrow)[^\s,()\[\]{}'\"]*"
)
# Where a plan has paths. Each pattern ends where the next one may begin, so that the search takes linear time.
_FILE_GROUPS = re.compile(r"file_groups=\{\d+ groups?: (?:(?!file_groups=\{).)*?\]\}", re.DOTALL)
_FILE_LABEL = re.compile(r"\bfilename=[^{}]*")  # of a metric
_COPY = re.compile(r"/(?:(?P<copy>[0-9a-f]{2}/[0-9a-f]{30})|information_schema\d*/(?P<table>\w+)\.arrow)(?=[\],:}]|$)")
_BEFORE_COPY = re.compile(r"(?:file_groups=\{\d+ groups?: |filename=|:\d+\.\.\d+)?[\[\], ]*")
_SHORT_LABEL = re.compile(r"\bfilename=([^{},]*)")  # less of it, because what a caller wrote behind it has to stay
_LISTED = re.compile(r"[^\[\],]+")
_STORE_ERRORS = (ArchivedObjectError, StaleObjectError, StoreUnavailableError)
_CALLERS_WORDS = (StatementError, ExecutionError, UnsupportedTypeError)
_SHORTEST_KEY = 12  # keys of test servers are words such as `test`, and are no secret
_NAMED = 1000  # partitions and objects that an explanation names
_ERROR_BYTES = 1500  # of an error; up to three times as many where they are escaped


def for_clients(error: BaseException) -> QueryError:
    """Return the error that clients get: the error itself, or an internal error in place of one for the operator.

    The service's log has what is hidden, under the id in the text of the internal error.
    """
    if isinstance(error, QueryError) and not isinstance(error, _PRIVATE):
        return error
    reference = secrets.token_hex(4)
    _log.error("error %s", reference, exc_info=error)
    return InternalError(f"internal error {reference}: see the service's log")


def unavailable(environment: str, error: BaseException | None) -> EnvironmentUnavailableError:
    """Return the error that clients get of an environment that cannot be read.

    Args:
        environment: Its name.
        error: The reason, which the caller logs; None if it is not known.
    """
    reason = next((text for kind, text in _REASONS if isinstance(error, kind)), "the service's log says why")
    return EnvironmentUnavailableError(
        f"environment {environment} cannot be read now: {reason}; the service retries automatically"
    )


class Redactor:
    """Takes out of texts what callers may not know.

    Args:
        environments: The settings of all environments: their endpoints and keys.
        folders: Local folders of this service.
    """

    def __init__(self, environments: Iterable[Settings], folders: Iterable[Path] = ()) -> None:
        replaced: dict[str, str] = {}
        for settings in environments:
            for secret in (settings.secret_access_key, settings.session_token, settings.access_key_id):
                if secret and len(secret) >= _SHORTEST_KEY and not is_reference(secret):
                    replaced[secret] = "[key]"
            if url := (settings.endpoint_url or "").rstrip("/"):
                replaced[url] = replaced[urlsplit(url).netloc] = "[endpoint]"
        self._replaced = replaced
        self._secrets = _any_of(replaced)
        here = [Path(sys.prefix), Path(__file__).parent, *folders]
        self._folders = re.compile(rf"(?<![\w/])(?:{_any_of(_names(here)).pattern})")
        # The templates that stand for tables while a statement is planned, with or without the first slash.
        scratch = _any_of(name.strip("/") for name in _names([Path(tempfile.gettempdir())])).pattern
        self._template = re.compile(rf"(?:file://)?/?(?:{scratch})/dagfusion-[^\s,\]\)'\"]*")

    def error(self, error: QueryError, objects: Iterable[str] = ()) -> str:
        """Return the text of a statement's error that any caller may read.

        Args:
            error: Why the statement failed.
            objects: Local folders in which objects lie that it may name.
        """
        text = str(error)
        if isinstance(error, _STORE_ERRORS) or not isinstance(error, _CALLERS_WORDS) or _STORE.match(text):
            return self.text(text, objects)
        return _without_sources(text)

    def plan(self, text: str, *, has_folders: bool) -> str:
        """Return a plan that any caller may read.

        Args:
            text: The plan as DataFusion writes it.
            has_folders: Whether its files are in local folders, which are taken out.
        """
        if has_folders:
            text = _FILE_GROUPS.sub(lambda group: _LISTED.sub(lambda path: _without_folder(path[0]), group[0]), text)
            text = _SHORT_LABEL.sub(lambda label: f"filename={_without_folder(label[1])}", text)
        return _without_sources(text)

    def text(self, text: str, objects: Iterable[str] = ()) -> str:
        """Return a text without a caller's words that any caller may read.

        Args:
            text: Whatever is to be said.
            objects: Local folders in which objects lie that it may name.
        """
        for folder in objects:
            text = re.sub(rf"(?:file://|(?<![\w/.-]))/?{re.escape(folder.lstrip('/'))}(?=/)", "[folder]", text)
        text = without_files(_BUG.sub("", _TRACE.sub("", text)))
        text = self._template.sub("[template]", text)
        text = self._secrets.sub(lambda match: self._replaced[match[0]], text)
        for secret in SECRETS.returned:
            text = text.replace(secret, "[key]") if len(secret) >= _SHORTEST_KEY else text
        return _SOURCE.sub("[source]", self._folders.sub("[folder]", text))


class StatementRedactor:
    """Redacts what the caller of one statement is shown.

    Args:
        redactor: Knows the secrets of the service.
        folders: Local folders that hold objects of the statement's tables, the longest first.
    """

    def __init__(self, redactor: Redactor, folders: Sequence[str] = ()) -> None:
        self._redactor, self._folders = redactor, folders

    def error(self, error: QueryError) -> str:
        """Return the text of an error that ends the statement, shortened if it is long."""
        return _cut(self._redactor.error(error, self._folders))

    def plan(self, text: str) -> str:
        """Return a plan as DataFusion writes it without what its caller may not know."""
        return self._redactor.plan(text, has_folders=bool(self._folders))

    def explanation(self, found: Explanation) -> Explanation:
        """Return an explanation with redacted plans. Its URIs stay; see `document`."""
        return replace(found, logical=self.plan(found.logical), physical=self.plan(found.physical))

    def document(self, found: Explanation, generations: Mapping[str, int]) -> ExplanationDocument:
        """Return an explanation as it is sent, with at most as many partitions and objects as a person reads.

        Args:
            found: The explanation, with redacted plans.
            generations: The generation of each environment.
        """
        scans = [
            replace(
                scan,
                partitions=scan.partitions[:_NAMED],
                uris=list(map(self._uri, scan.uris[:_NAMED])),
                large_objects=list(map(self._uri, scan.large_objects[:_NAMED])),
            )
            for scan in found.scans
        ]
        return ExplanationDocument(scans, found.logical, found.physical, found.path, generations=generations)

    def _uri(self, uri: str) -> str:
        """Return the URI of an object without its local folder."""
        return self._redactor.text(uri, self._folders)


def with_names(text: str, objects: Mapping[str, str]) -> str:
    """Return a plan's text with names in place of local paths.

    Args:
        text: The plan as DataFusion writes it.
        objects: By the last two parts of the path of a copy, the path of its object.
    """
    for place in (_FILE_GROUPS, _FILE_LABEL):
        text = place.sub(lambda found: _named_files(found[0], objects), text)
    return text


def without_files(text: str) -> str:
    """Return a text without the folders of the local files that it quotes; their names stay."""
    return _QUOTED_FILE.sub(r"\1[folder]/\2\1", text)


def _named_files(listed: str, objects: Mapping[str, str]) -> str:
    shown, last = "", 0
    for end in _COPY.finditer(listed):
        name = f"information_schema/{end['table']}" if end["table"] else objects.get(end["copy"])
        if name is not None:
            before = _BEFORE_COPY.match(listed, last)
            shown += ("" if before is None else before[0]) + name
            last = end.end()
    return shown + listed[last:]


def _cut(text: str) -> str:
    """Return a text without its middle, if it is long: it may quote a statement, and clients of gRPC take 8 KiB."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= _ERROR_BYTES:
        return text
    start, end = encoded[: _ERROR_BYTES * 2 // 3], encoded[-_ERROR_BYTES // 3 :]
    return f"{start.decode(errors='ignore')} ... {end.decode(errors='ignore')}"


def _without_folder(path: str) -> str:
    """Return the path of a file without its folders but those of partition values, such as `state=CA`."""
    *folders, name = path.split("/")
    first = len(folders)
    while first and "=" in folders[first - 1]:
        first -= 1
    blank = path[: len(path) - len(path.lstrip())]
    return path if first == 0 else "/".join([f"{blank}[folder]", *folders[first:], name])


def _without_sources(text: str) -> str:
    """Return a text that may hold a caller's words without traces, source files and template folders."""
    return _PLACED_SOURCE.sub("[source]", _SCRATCH.sub("[template]", _BUG.sub("", _TRACE.sub("", text))))


def _names(folders: Iterable[Path]) -> set[str]:
    """Return the names of folders: as they are given, and without symbolic links, which the engine may follow."""
    return {name for folder in folders for name in (str(folder), str(folder.resolve()))}


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return what matches any of these texts, the longest first; never the empty text."""
    ordered = sorted((text for text in texts if text), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
