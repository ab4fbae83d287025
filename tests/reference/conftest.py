"""The code location's store."""

from tests.stores import fields, instance, s3_fields

__all__ = ["fields", "instance", "s3_fields"]
