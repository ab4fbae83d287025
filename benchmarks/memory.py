"""The memory of processes."""

from pathlib import Path


def peak_rss_mb(pid: int | str = "self") -> float:
    """Return a process's peak since its program started, in MB; `getrusage` would begin with that of its parent.

    A process that has just ended has none: 0.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def memory_mb() -> tuple[float, float]:
    """Return the memory of this process in MB: all of it, and without the pages of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {name: size for name, _, size in (line.partition(":") for line in lines)}
    resident, anonymous = (int(sizes[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))
    return resident, anonymous
