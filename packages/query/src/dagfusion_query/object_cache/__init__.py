"""What is kept on local disk, shared by the processes of one user: objects by their version, results by their plan."""

CACHE = "cache"  # the path of a query whose result was kept
