"""`generate_series` and `range` as table functions whose plans serialize.

DataFusion's own are custom tables, which a serialized plan cannot carry, so a calendar join could not be spliced. These
give the same values as views over literals: one list for a short series, and a cross join of digits for a long one.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
from datafusion import DataFrame, Expr, SessionContext, lit, udtf
from datafusion.catalog import Table

SHORT = 1_000  # values that a plan carries one by one
LONGEST = 100_000  # the same where the values do not lie at equal distances, as months do
_DIGITS = 1_000  # values of one digit of a long series
_MOST = _DIGITS**4  # values of a long series
_DAY_NS = 86_400 * 10**9
_UNITS = {"s": "Second", "ms": "Millisecond", "us": "Microsecond", "ns": "Nanosecond"}


class SeriesFunctions:
    """The table functions, which a session registers. Their own context has DataFusion's, which compute the values."""

    def __init__(self) -> None:
        self._context = SessionContext()
        # DataFusion calls a table function on a thread of its runtime, where no query can be waited for.
        self._thread = ThreadPoolExecutor(1, "dagfusion-series")

    def register(self, context: SessionContext) -> None:
        """Replace DataFusion's functions in a context."""
        for name in ("generate_series", "range"):
            context.register_udtf(udtf(partial(self._call, name), name))

    def _call(self, name: str, *arguments: Expr) -> Table:
        return self._thread.submit(self._series, name, arguments).result()

    def _series(self, name: str, arguments: tuple[Expr, ...]) -> Table:
        try:
            builtin = self._context.sql(f"SELECT value FROM {name}({', '.join(map(_sql, arguments))})")
        except Exception as error:
            raise ValueError(f"<series: {str(error).rpartition('Error during planning: ')[2]}>") from error
        values = _values(builtin.limit(SHORT + 1))
        if len(values) > SHORT:
            count = _count(values, [argument.python_value() for argument in arguments], is_closed=name != "range")
            if count is not None:
                return self._context.sql(_digits(values, count)).into_view() if count <= _MOST else builtin.into_view()
            values = _values(builtin.limit(LONGEST + 1))
        return (self._listed(values) if len(values) <= LONGEST else builtin).into_view()

    def _listed(self, values: pa.Array) -> DataFrame:
        row = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)[0]
        return self._context.empty_table().select(lit(row).alias("value")).unnest_columns("value")


def _sql(argument: Expr) -> str:
    """Return a literal argument as SQL; anything else as text that DataFusion refuses as its own function does."""
    if argument.variant_name() != "Literal":
        return str(argument.canonical_name())
    value = argument.python_value()
    return _literal(value, str(argument.canonical_name()).partition("(")[0]) if value.is_valid else "NULL"


def _literal(value: pa.Scalar, name: str) -> str:
    """Return a value as SQL; a NULL of the type, which is refused by its name, where series do not have the type."""
    kind = value.type
    if pa.types.is_timestamp(kind):
        zone = f'Some("{kind.tz}")' if kind.tz else "None"
        return f"arrow_cast({value.value}, 'Timestamp({_UNITS[kind.unit]}, {zone})')"
    if pa.types.is_date32(kind):
        return f"arrow_cast({value.value}, 'Date32')"
    if pa.types.is_interval(kind):
        months, days, nanoseconds = value.as_py()
        return f"INTERVAL '{months} months {days} days {nanoseconds} nanoseconds'"
    return str(value) if kind == pa.int64() else f"arrow_cast(NULL, '{name}')"


def _values(frame: DataFrame) -> pa.Array:
    return frame.to_arrow_table()["value"].combine_chunks()


def _count(first: pa.Array, arguments: list[pa.Scalar], *, is_closed: bool) -> int | None:
    """Return the number of values of a series whose values lie at equal distances; None for others.

    Args:
        first: The first values, more than two.
        arguments: The arguments of the call.
        is_closed: Whether the last argument may be a value, too.
    """
    if first.type.equals(pa.int64()):
        stop = (arguments[1] if len(arguments) > 1 else arguments[0]).as_py()
    elif first.type.equals(pa.timestamp("ns")) and arguments[2].as_py().months == 0:
        stop = arguments[1].value * (_DAY_NS if pa.types.is_date32(arguments[1].type) else 1)
    else:
        return None
    start, following = first[:2].cast(pa.int64()).to_pylist()
    steps, rest = divmod(stop - start, following - start)
    return int(steps + 1 if is_closed or rest else steps)


def _digits(first: pa.Array, count: int) -> str:
    """Return the SQL of `count` values at the distance of the first two: start + step * n, n made of its digits."""
    start, following = first[:2].cast(pa.int64()).to_pylist()
    sizes = [1]
    while sizes[-1] * _DIGITS < count:
        sizes.append(sizes[-1] * _DIGITS)
    # The digit that changes fastest is on the right, which a cross join streams.
    digits = " CROSS JOIN ".join(
        f"(SELECT unnest(range(0, {min(_DIGITS, -(-count // size))})) AS d{size})" for size in reversed(sizes)
    )
    number = " + ".join(f"d{size} * {size}" for size in sizes)
    value = f"{start} + {following - start} * n"
    value = value if first.type.equals(pa.int64()) else f"arrow_cast({value}, 'Timestamp(Nanosecond, None)')"
    return f"SELECT {value} AS value FROM (SELECT {number} AS n FROM {digits}) WHERE n < {count}"
