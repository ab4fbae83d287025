"""The errors of the contract. docs/reference/errors.md has a table of them, which scripts/reference.py writes."""


class ContractError(ValueError):
    """The base of every error of this package."""


class LayoutError(ContractError):
    """An asset key or a partition value cannot become an object key, or an object key is not of the layout."""


class SecretReferenceError(ContractError):
    """A setting begins as a reference to a secret and is not one."""


class RegionError(ContractError):
    """A client of AWS needs a region, and none is set."""


class SecretError(ContractError):
    """A secret that a setting refers to cannot be read."""


class RecordError(ContractError):
    """A `dagfusion/file` entry cannot be used."""


class MalformedRecordError(RecordError):
    """A field of a `dagfusion/file` entry is missing, or has a value that it cannot have."""


class RecordVersionError(RecordError):
    """The version of a `dagfusion/file` entry is not one that this reader knows."""
