"""Where snapshots are kept when nobody says where: the user's cache folder, one folder an event log."""

import hashlib
import logging
from pathlib import Path

from dagfusion_query.event_log.protocol import EventLog
from dagfusion_query.settings import NO_STATE, Settings

_log = logging.getLogger(__name__)


def snapshot_folder(settings: Settings, event_log: EventLog) -> Path | None:
    """Return the folder for the snapshots of an event log, or None to keep none.

    The folder that was named is not looked at. The cache folder is made, for the user alone; without it everything
    works, only slower, so what stands against it is logged.

    Raises:
        EventLogError: The event log cannot be read. A snapshot that nobody asked for must not hide this.
    """
    if settings.state_dir is not None:
        return None if settings.state_dir == NO_STATE else Path(settings.state_dir)
    if settings.cache_dir is None:
        return None
    what = (event_log.identity(), settings.environment, settings.metadata_keys)
    ours = Path(settings.cache_dir, "dagfusion")
    folder = ours / hashlib.sha256("\x00".join(what).encode()).hexdigest()[:16]
    try:
        ours.parent.mkdir(parents=True, exist_ok=True)
        for private in (ours, folder, folder / "segments"):
            private.mkdir(0o700, exist_ok=True)
    except OSError as error:
        _log.warning(
            "every start reads the whole event log, since the catalog's snapshot cannot be kept: %s; "
            "name a folder in DAGFUSION_STATE_DIR, or set it to %s",
            error,
            NO_STATE,
        )
        return None
    return folder
