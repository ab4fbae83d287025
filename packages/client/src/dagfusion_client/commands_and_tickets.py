"""Encodes and decodes the commands and tickets of Flight SQL, and the messages of Flight's own actions.

All are protobuf messages. Their classes are built from their published wire layout when the module is imported, so no
generated code has to match the installed protobuf.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from dagfusion_client.errors import BadRequestError

# What DagFusion's own client asks and hears beyond Flight SQL: JSON, as the HTTP door's documents.
AS_OF = "dagfusion-as-of"  # a header: the past event or time that a call reads the tables as of
ENGINE = "dagfusion-engine"  # a header: the engine that a call chooses
EXPLAIN, QUERY, TABLES = "dagfusion.Explain", "dagfusion.Query", "dagfusion.Tables"
GENERATIONS, DIFF = "dagfusion.Generations", "dagfusion.Diff"
NAMED = {b"dagfusion.parameters": b"named"}  # of a row of parameters: its columns have the parameters' names
ERROR_TRAILER = "dagfusion-error-bin"  # a `Failure`
QUERY_HEADER = "dagfusion-query-id"  # of a response with rows
STATS_TRAILER = "dagfusion-stats-bin"  # of a result that was sent to its end, as the header `DagFusion-Stats`

_KIND = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _KIND.TYPE_BOOL,
    "bytes": _KIND.TYPE_BYTES,
    "double": _KIND.TYPE_DOUBLE,
    "int32": _KIND.TYPE_INT32,
    "int64": _KIND.TYPE_INT64,
    "sfixed64": _KIND.TYPE_SFIXED64,
    "string": _KIND.TYPE_STRING,
    "uint32": _KIND.TYPE_UINT32,
}


class _Field(NamedTuple):
    """One field: `kind` is a scalar or a message of the same package; `rule` as in a .proto file, or a oneof's name."""

    name: str
    number: int
    kind: str
    rule: str = ""


_Messages = Mapping[str, Sequence[_Field]]
_STATEMENT = (_Field("query", 1, "string"), _Field("transaction_id", 2, "bytes", "optional"))
_HANDLE = (_Field("prepared_statement_handle", 1, "bytes"),)
_TABLE = (
    _Field("catalog", 1, "string", "optional"),
    _Field("db_schema", 2, "string", "optional"),
    _Field("table", 3, "string"),
)

_FLIGHT_SQL: _Messages = {
    "CommandStatementQuery": _STATEMENT,
    "CommandStatementUpdate": _STATEMENT,
    "CommandStatementSubstraitPlan": (),
    "CommandStatementIngest": (),
    "CommandPreparedStatementQuery": _HANDLE,
    "CommandPreparedStatementUpdate": _HANDLE,
    "CommandGetCatalogs": (),
    "CommandGetDbSchemas": (
        _Field("catalog", 1, "string", "optional"),
        _Field("db_schema_filter_pattern", 2, "string", "optional"),
    ),
    "CommandGetTables": (
        _Field("catalog", 1, "string", "optional"),
        _Field("db_schema_filter_pattern", 2, "string", "optional"),
        _Field("table_name_filter_pattern", 3, "string", "optional"),
        _Field("table_types", 4, "string", "repeated"),
        _Field("include_schema", 5, "bool"),
    ),
    "CommandGetTableTypes": (),
    "CommandGetSqlInfo": (_Field("info", 1, "uint32", "repeated"),),
    "CommandGetXdbcTypeInfo": (_Field("data_type", 1, "int32", "optional"),),
    "CommandGetPrimaryKeys": _TABLE,
    "CommandGetImportedKeys": _TABLE,
    "CommandGetExportedKeys": _TABLE,
    "CommandGetCrossReference": (),
    "TicketStatementQuery": (_Field("statement_handle", 1, "bytes"),),
    "ActionCreatePreparedStatementRequest": _STATEMENT,
    "ActionCreatePreparedStatementResult": (
        *_HANDLE,
        _Field("dataset_schema", 2, "bytes"),
        _Field("parameter_schema", 3, "bytes"),
    ),
    "ActionClosePreparedStatementRequest": _HANDLE,
    "DoPutPreparedStatementResult": (_Field("prepared_statement_handle", 1, "bytes", "optional"),),
    "ActionCancelQueryRequest": (_Field("info", 1, "bytes"),),
    "ActionCancelQueryResult": (_Field("result", 1, "int32"),),
}
_FLIGHT: _Messages = {
    # `info` is a FlightInfo: left encoded, because pyarrow decodes it.
    "CancelFlightInfoRequest": (_Field("info", 1, "bytes"),),
    "CancelFlightInfoResult": (_Field("status", 1, "int32"),),
    "StringListValue": (_Field("values", 1, "string", "repeated"),),
    "SessionOptionValue": (
        _Field("string_value", 1, "string", "option_value"),
        _Field("bool_value", 2, "bool", "option_value"),
        _Field("int64_value", 3, "sfixed64", "option_value"),
        _Field("double_value", 4, "double", "option_value"),
        _Field("string_list_value", 5, "StringListValue", "option_value"),
    ),
    "SetSessionOptionsRequest": (_Field("session_options", 1, "SessionOptionValue", "map"),),
    "SetSessionOptionsError": (_Field("value", 1, "int32"),),
    "SetSessionOptionsResult": (_Field("errors", 1, "SetSessionOptionsError", "map"),),
    "GetSessionOptionsRequest": (),
    "GetSessionOptionsResult": (_Field("session_options", 1, "SessionOptionValue", "map"),),
    "CloseSessionRequest": (),
    "CloseSessionResult": (_Field("status", 1, "int32"),),
}


def _add(message: descriptor_pb2.DescriptorProto, field: _Field, package: str) -> None:
    label = _KIND.LABEL_REPEATED if field.rule in ("repeated", "map") else _KIND.LABEL_OPTIONAL
    made = message.field.add(name=field.name, number=field.number, label=label)
    if field.rule == "map":
        entry = message.nested_type.add(name="".join(word.title() for word in field.name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add(entry, _Field("key", 1, "string"), package)
        _add(entry, _Field("value", 2, field.kind), package)
        made.type, made.type_name = _KIND.TYPE_MESSAGE, f".{package}.{message.name}.{entry.name}"
    elif field.kind in _SCALARS:
        made.type = _SCALARS[field.kind]
    else:
        made.type, made.type_name = _KIND.TYPE_MESSAGE, f".{package}.{field.kind}"
    if field.rule == "optional":
        made.proto3_optional = True
        made.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{field.name}")
    elif field.rule not in ("", "repeated", "map"):
        if not message.oneof_decl:
            message.oneof_decl.add(name=field.rule)
        made.oneof_index = 0


def _build(package: str, messages: _Messages) -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name=f"dagfusion/{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add(message, field, package)
    pool = descriptor_pool.DescriptorPool()  # a pool of one's own: another library may have the real .proto loaded
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


_SQL = _build("arrow.flight.protocol.sql", _FLIGHT_SQL)
_OWN = _build("arrow.flight.protocol", _FLIGHT)


def make(name: str, **fields: Any) -> Any:
    """Make a message by its name."""
    kind = _SQL.get(name) or _OWN[name]
    return kind(**fields)


def packed(name: str, **fields: Any) -> bytes:
    """Encode a Flight SQL message inside of an `Any`, as commands, tickets and results travel."""
    envelope = any_pb2.Any()
    envelope.Pack(make(name, **fields))
    encoding: bytes = envelope.SerializeToString()
    return encoding


def encoded(name: str, **fields: Any) -> bytes:
    """Encode a message without an envelope."""
    encoding: bytes = make(name, **fields).SerializeToString()
    return encoding


def unpack(raw: bytes) -> tuple[str, Any]:
    """Read a Flight SQL message out of its `Any`: its name and itself; a name not known here has None.

    Raises:
        BadRequestError: The bytes are no Flight SQL message.
    """
    envelope = any_pb2.Any()
    try:
        envelope.ParseFromString(raw)
        name = envelope.type_url.rpartition("arrow.flight.protocol.sql.")[2]
        if not envelope.type_url.startswith("type.googleapis.com/arrow.flight.protocol.sql."):
            raise BadRequestError("this is no Flight SQL command: expected a message of Flight SQL in an Any")
        return name, _SQL[name].FromString(envelope.value) if name in _SQL else None
    except DecodeError as error:
        raise BadRequestError("this is no Flight SQL command: its bytes cannot be decoded") from error


def decode(name: str, raw: bytes) -> Any:
    """Read a message that has no envelope.

    Raises:
        BadRequestError: The bytes are no such message.
    """
    try:
        return _OWN[name].FromString(raw)
    except DecodeError as error:
        raise BadRequestError(f"the body of this action must be a {name}: its bytes cannot be decoded") from error


def unpacked_command(command: bytes) -> tuple[str, Any]:
    """Return the command of a descriptor, with its name.

    Raises:
        BadRequestError: The descriptor has no command.
    """
    if not command:
        raise BadRequestError("a FlightDescriptor must hold a Flight SQL command, this one has a path or nothing")
    return unpack(command)


def unpacked_body(body: bytes, expected: str) -> Any:
    """Return the body of an action, which is one message.

    Raises:
        BadRequestError: It is not the expected one.
    """
    name, message = unpack(body)
    if name != expected:
        raise BadRequestError(f"the body of this action must be an {expected}, got {name}")
    return message
