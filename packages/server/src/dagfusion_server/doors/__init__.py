"""The doors: the protocols of the service, HTTP and Arrow Flight SQL."""
