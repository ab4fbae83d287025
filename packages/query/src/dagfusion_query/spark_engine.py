"""The Spark engine as an embedded connection sees it. `dagfusion-interop` registers it as an entry point."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points

from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import missing_extra
from dagfusion_client.parameters import Params
from dagfusion_client.settings import READER
from dagfusion_contract.record import Layout
from dagfusion_contract.setting_declarations import declaration
from dagfusion_query.catalog.model import Table
from dagfusion_query.engine.engine import Engine, Prepared
from dagfusion_query.engine.plan_execution import Batches
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_query.settings import Settings

ENGINES = "dagfusion.engines"  # the entry-point group
Layouts = Callable[[Prepared, Table], Sequence[Layout]]
Note = Callable[[Batches], None]  # receives an execution that has begun, before anything waits for it


class SparkRuns:
    """The executions of one statement, one after another.

    Args:
        start: Called with a function and the planned statement. Starts an execution, passes it to the function as soon
            as it has begun, and returns it.
    """

    def __init__(self, start: Callable[[Note, Prepared], Batches]) -> None:
        self._start = start
        self._running: Batches | None = None

    def __call__(self, prepared: Prepared) -> Batches:
        """Start an execution of a planned statement.

        Raises:
            EngineChoiceError: Spark was chosen, but the statement cannot be sent.
            MissingExtraError: The extra `spark` is not installed.
            StoreUnavailableError: Spark was chosen, but metadata cannot be written.
        """
        batches = self._start(self._note, prepared)
        self._note(batches)
        return batches

    def cancel(self) -> None:
        """Cancel the last execution."""
        if self._running is not None:
            self._running.cancel()

    def _note(self, batches: Batches) -> None:
        self._running = batches


@dataclass(frozen=True)
class SparkEngine:
    """The Spark engine of a connection. Its functions are thread-safe.

    Attributes:
        runs: Returns the executions of a statement: on the server, or with `auto` perhaps in this process. Takes the
            choice (`spark` or `auto`), the statement, its parameters, and a function that returns the layouts of the
            files of a table in its plan.
        close: Cancels the running statements, and waits a moment until the server has interrupted them.
    """

    runs: Callable[[EngineChoice, str, Params, Layouts], SparkRuns]
    close: Callable[[], None]


def spark_server(variables: Mapping[str, str]) -> str | None:
    """Return the URL of the Spark Connect server that `DAGFUSION_SPARK_REMOTE` names, or a reference to its secret.

    Raises:
        SettingsError: It has a value that it cannot have.
    """
    url: str | None = READER.read_values([declaration(ServiceSettings, "spark_remote")], variables).get("spark_remote")
    return url


def open_spark_engine(url: str, engine: Engine, settings: Settings, variables: Mapping[str, str]) -> SparkEngine:
    """Open the installed Spark engine.

    Args:
        url: The Spark Connect server; see `spark_server`.
        engine: Compares objects, and runs the statements that are not sent.
        settings: The connection's settings.
        variables: The environment variables that name the folder of metadata. They are read when a statement is first
            sent.

    Raises:
        MissingExtraError: The extra `spark` is not installed.
    """
    found = entry_points(group=ENGINES, name=EngineChoice.spark.value)
    if not found:
        raise missing_extra("spark", "DAGFUSION_SPARK_REMOTE", "dagfusion-interop")
    [entry] = found
    opened: SparkEngine = entry.load()(url, engine, settings, variables)
    return opened
