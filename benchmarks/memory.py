"""The most memory that a process has had."""

from pathlib import Path


def peak_rss_mb(pid: int | str = "self") -> float:
    """Return a process's peak since its program started, in MB; `getrusage` would begin with that of its parent.

    A process that has just ended has none: 0.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
