"""Whole objects on local disk, each under the name of its version, shared by the processes of one user."""
