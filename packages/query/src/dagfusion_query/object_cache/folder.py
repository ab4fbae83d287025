"""Where local copies are kept."""

import logging
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

from dagfusion_query.object_cache.copies import Copies
from dagfusion_query.settings import NO_STATE, Settings

_log = logging.getLogger(__name__)


def open_copies(settings: Settings) -> Copies | None:
    """Return the local copies of the settings' folder, or of the process's own where no folder can be kept.

    Returns:
        None if the settings want no copies, or no folder can be written to.
    """
    if settings.object_cache_dir == NO_STATE:
        return None
    for folder in _folders(settings):
        try:
            return Copies(folder, settings.object_cache_bytes)
        except OSError as error:
            _log.warning("copies of objects cannot be kept in %s: %s", folder, error)
    try:
        folder = Path(tempfile.mkdtemp(prefix="dagfusion-"))
        copies = Copies(folder, settings.object_cache_bytes)
    except OSError as error:
        _log.warning("every object is read in its store, because no folder for copies can be made: %s", error)
        return None
    weakref.finalize(copies, shutil.rmtree, folder, ignore_errors=True)
    return copies


def _folders(settings: Settings) -> Iterator[Path]:
    if settings.object_cache_dir is not None:
        yield Path(settings.object_cache_dir).expanduser()
    elif settings.state_dir is not None:
        if settings.state_dir != NO_STATE:
            yield Path(settings.state_dir, "objects")
    elif settings.cache_dir is not None:
        yield Path(settings.cache_dir, "dagfusion", "objects")
