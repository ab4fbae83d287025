"""A physical plan's text, with the names of objects and tables in place of the paths of local files. Pure.

Paths are known by their place in the text and by their end, whatever folder comes before: a caller who writes a folder
into a statement does not learn whether it is the right one.
"""

import re
from collections.abc import Mapping

# Callers may write long texts: each pattern ends where the next one may begin, so that the search takes linear time.
_FILE_GROUPS = re.compile(r"file_groups=\{\d+ groups?: (?:(?!file_groups=\{).)*?\]\}", re.DOTALL)
_FILE_LABEL = re.compile(r"\bfilename=[^{}]*")  # of a metric
_END = re.compile(r"/(?:(?P<copy>[0-9a-f]{2}/[0-9a-f]{30})|information_schema\d*/(?P<table>\w+)\.arrow)(?=[\],:}]|$)")
_BEFORE = re.compile(r"(?:file_groups=\{\d+ groups?: |filename=|:\d+\.\.\d+)?[\[\], ]*")


def with_names(text: str, objects: Mapping[str, str]) -> str:
    """Return a plan's text with names in place of local paths.

    Args:
        text: The plan as DataFusion writes it.
        objects: By the last two parts of the path of a copy, the path of its object.
    """
    for place in (_FILE_GROUPS, _FILE_LABEL):
        text = place.sub(lambda found: _named(found[0], objects), text)
    return text


def _named(listed: str, objects: Mapping[str, str]) -> str:
    shown, last = "", 0
    for end in _END.finditer(listed):
        name = f"information_schema/{end['table']}" if end["table"] else objects.get(end["copy"])
        if name is not None:
            before = _BEFORE.match(listed, last)
            shown += ("" if before is None else before[0]) + name
            last = end.end()
    return shown + listed[last:]
