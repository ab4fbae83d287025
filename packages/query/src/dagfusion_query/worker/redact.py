"""What of a text a caller may not know: where this service is installed, where its stores are, and with which keys."""

import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from dagfusion_query.settings import Settings

_SOURCE = re.compile(r"(?:/[\w.@+-]+)+/[\w.-]+\.(?:rs|py)(?::\d+)*")  # of this program or of a library
_TRACE = re.compile(r"\n*(?:stack backtrace:|backtrace:|Traceback \(most recent call last\):).*", re.DOTALL)
_BUG = re.compile(r"\s*This issue was likely caused by a bug in DataFusion's code\..*", re.DOTALL)
_QUOTED_FILE = re.compile(r"""(['"])file:///(?:(?!\1).)*?((?:(?!\1)[^/])*/?)\1""")  # as messages quote it
_SHORTEST_KEY = 12  # keys of test servers are words such as `test`, and are no secret


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
                if secret and len(secret) >= _SHORTEST_KEY:
                    replaced[secret] = "[key]"
            if url := (settings.endpoint_url or "").rstrip("/"):
                replaced[url] = replaced[urlsplit(url).netloc] = "[endpoint]"
        self._replaced = replaced
        self._known = _any_of(replaced)
        here = [Path(sys.prefix), Path(__file__).parents[1], *folders]
        self._folders = re.compile(rf"(?<![\w/])(?:{_any_of(_names(here)).pattern})")
        # The templates that stand for tables while a statement is planned, with or without the first slash.
        scratch = _any_of(name.strip("/") for name in _names([Path(tempfile.gettempdir())])).pattern
        self._template = re.compile(rf"(?:file://)?/?(?:{scratch})/dagfusion-[^\s,\]\)'\"]*")

    def text(self, text: str, objects: Iterable[str] = ()) -> str:
        """Return a text that any caller may read.

        Args:
            text: Whatever is to be said.
            objects: Local folders in which objects lie that it may name.
        """
        for folder in objects:
            text = re.sub(rf"(?:file://|(?<![\w/.-]))/?{re.escape(folder.lstrip('/'))}(?=/)", "[folder]", text)
        text = without_files(_BUG.sub("", _TRACE.sub("", text)))
        text = self._template.sub("[template]", text)
        text = self._known.sub(lambda match: self._replaced[match[0]], text)
        return _SOURCE.sub("[source]", self._folders.sub("[folder]", text))


def without_files(text: str) -> str:
    """Return a text without the folders of the local files that it quotes; their names stay."""
    return _QUOTED_FILE.sub(r"\1[folder]/\2\1", text)


def _names(folders: Iterable[Path]) -> set[str]:
    """Return the names of folders: as they are given, and without symbolic links, which the engine may follow."""
    return {name for folder in folders for name in (str(folder), str(folder.resolve()))}


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return what matches any of these texts, the longest first; never the empty text."""
    ordered = sorted((text for text in texts if text), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
