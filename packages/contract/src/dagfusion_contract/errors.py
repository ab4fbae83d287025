"""Every error of the contract, as one tree.

ContractError                a value breaks the contract
├── LayoutError              an asset or partition cannot become an object key, or a key is not of the layout
├── SecretReferenceError     a setting begins as a reference to a secret and is not one
├── RegionError              no AWS region is set
├── SecretError              a secret that a setting refers to cannot be read
└── RecordError              a `dagfusion/file` entry cannot be used
    ├── MalformedRecordError a field is missing, or has a value that it cannot have
    └── RecordVersionError   its version is not one that this reader knows
"""


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
