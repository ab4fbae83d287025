"""Write the generated parts of `docs/reference/` from the code: settings, errors, HTTP, the command line, Python.

    python scripts/reference.py

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. The rest of a page is written by hand.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

import dagfusion_client
import dagfusion_client.errors
import dagfusion_contract.errors
import dagfusion_pipeline
import dagfusion_pipeline.errors
import dagfusion_query
import dagfusion_stack.errors
from dagfusion_cli.main import COMMANDS, app
from dagfusion_client.settings import ClientSettings
from dagfusion_contract.setting_declarations import declared
from dagfusion_pipeline.environment import Credentials, Environment
from dagfusion_query.config_file import ENVIRONMENT_KEYS, SERVICE_KEYS
from dagfusion_query.service_settings import ConfigSettings, EnvironmentSettings, ServiceSettings
from dagfusion_query.settings import ENGINE_SETTINGS, Settings
from dagfusion_server.doors.http.openapi import describe
from dagfusion_stack.settings import Settings as StackSettings

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
COMPOSE = re.compile(r"\$\{(\w+):-([^}]*)\}")
SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises):")
WIDTH = 100


def main() -> None:
    """Write every page that has a generated part."""
    for path in sorted(FOLDER.glob("*.md")):
        path.write_text(fill(path.read_text()))


def fill(page: str) -> str:
    """Return a page with its generated parts as the code has them now."""
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]().strip()}\n\n{found[3]}", page)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def settings(part: str) -> "list[dataclasses.Field[Any]]":
    """Return the settings of a part of the page: the fields that have a variable and a help text."""
    return [setting for kind in SETTINGS[part] for setting in declared(kind)]


def settings_table(part: str) -> str:
    """Return the table of settings of a part of the page."""
    heads = ("Variable", "Default", "Meaning")
    return table(heads, ([f"`{s.metadata['variable']}`", default(s), s.metadata["help"]] for s in settings(part)))


def environment_table() -> str:
    """Return the keys of an environment, as variables and with their meaning."""
    return table(
        ("Key", "Variable of `uat`", "Meaning"),
        (
            [f"`{key.name}`", f"`{key.metadata['variable'].format(NAME='UAT')}`", key.metadata["help"]]
            for key in declared(EnvironmentSettings)
        ),
    )


def compose_settings() -> dict[str, str]:
    """Return the variables of `docker-compose.yml` with their defaults."""
    return dict(COMPOSE.findall((ROOT / "docker-compose.yml").read_text()))


def compose_table() -> str:
    """Return the table of the variables of `docker-compose.yml`."""
    rows = ([f"`{name}`", f"`{text}`" if text else "empty"] for name, text in compose_settings().items())
    return table(("Variable", "Default"), rows)


def default(setting: "dataclasses.Field[Any]") -> str:
    """Return the default of a setting as the page shows it."""
    if shown := setting.metadata.get("shown"):
        return str(shown)
    return "none" if setting.default in (None, "") else f"`{setting.default}`"


def io_manager_table() -> str:
    """Return the fields of the IO managers."""
    fields = dagfusion_pipeline.PartitionedS3ParquetIOManager.model_fields
    described = ((name, field) for name, field in fields.items() if field.description)
    rows = ([f"`{name}`", shown_field(field), field.description or ""] for name, field in described)
    return table(("Field", "Default", "Meaning"), rows)


def shown_field(field: Any) -> str:
    """Return the default of a pydantic field as the page shows it."""
    if field.is_required():
        return "required"
    return "none" if field.default in (None, []) else f"`{field.default}`"


def keys_list() -> str:
    """Return the keys of the tables of `dagfusion.toml`."""
    tables = {"[service]": SERVICE_KEYS, "[engine]": ENGINE_SETTINGS, "[environments.NAME]": ENVIRONMENT_KEYS}
    return table(
        ("Table", "Keys"), ([f"`{name}`", ", ".join(f"`{key}`" for key in keys)] for name, keys in tables.items())
    )


def errors_tables() -> str:
    """Return one table of errors for each package."""
    return "\n\n".join(
        [
            "## `dagfusion_client.errors`",
            "`dagfusion_query.errors` has the same classes.",
            table(
                ("Error", "Base", "Code", "HTTP", "gRPC", "Meaning"),
                (
                    [
                        f"`{e.__name__}`",
                        f"`{e.__base__.__name__}`",
                        f"`{e.code}`",
                        str(e.http_status),
                        e.grpc_status,
                        summary(e),
                    ]
                    for e in tree(dagfusion_client.errors.QueryError)
                ),
            ),
            *(
                part
                for base in (
                    dagfusion_pipeline.errors.PipelineError,
                    dagfusion_stack.errors.StackError,
                    dagfusion_contract.errors.ContractError,
                )
                for part in (f"## `{base.__module__}`", plain_errors(base))
            ),
        ]
    )


def plain_errors(base: type[Exception]) -> str:
    """Return the table of a package whose errors have no status."""
    return table(
        ("Error", "Base", "Meaning"), ([f"`{e.__name__}`", f"`{base_name(e)}`", summary(e)] for e in tree(base))
    )


def base_name(error: type[Exception]) -> str:
    """Return the name of an error's base class."""
    return error.__bases__[0].__name__


def tree(base: Any) -> Iterator[Any]:
    """Yield a class and all below it in the order of the code."""
    yield base
    for kind in base.__subclasses__():
        if kind.__module__ == base.__module__:
            yield from tree(kind)


def summary(thing: object) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split())


def http_table() -> str:
    """Return the paths of the HTTP API."""
    rows = []
    for path, item in describe("")["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                statuses = ", ".join(sorted(status for status in operation["responses"] if status >= "400"))
                rows.append([f"`{method.upper()} {path}`", operation["summary"], statuses])
    return table(("Request", "Meaning", "Errors"), rows)


def http_body() -> str:
    """Return the fields of the body of `POST /v1/sql`."""
    schema = describe("")["components"]["schemas"]["SqlRequest"]
    required = schema.get("required", [])
    rows = (
        [f"`{name}`", "yes" if name in required else "no", field.get("description", "")]
        for name, field in schema["properties"].items()
    )
    return table(("Field", "Required", "Meaning"), rows)


def cli_help() -> str:
    """Return the help of every command, those of the stack included."""
    for entry in entry_points(group=COMMANDS):
        add: Callable[[typer.Typer], None] = entry.load()
        add(app)
    return "\n\n".join(command_help(get_command(app), "dagfusion"))


def command_help(command: Any, name: str, parent: Any = None) -> Iterator[str]:
    """Yield a section for a command, and for each below it."""
    context = command.context_class(
        command,
        info_name=name,
        parent=parent,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    yield f"## `{context.command_path}`\n\n```text\n{command.get_help(context).rstrip()}\n```"
    for child, below in getattr(command, "commands", {}).items():
        yield from command_help(below, child, context)


def python_names() -> str:
    """Return the public names of the packages with their docstrings."""
    modules = (dagfusion_query, dagfusion_client, dagfusion_pipeline)
    return "\n\n".join(part for module in modules for part in module_names(module))


def module_names(module: Any) -> Iterator[str]:
    """Yield a section for a package, and for each of its public names that is not one of `dagfusion_query`."""
    yield f"## `{module.__name__}`"
    yield summary(module)
    shared = [] if module is dagfusion_query else [name for name in module.__all__ if is_of_query(module, name)]
    if shared:
        yield f"{', '.join(f'`{name}`' for name in sorted(shared))} are those of `dagfusion_query`."
    for name in sorted({*module.__all__} - {*shared}):
        value = getattr(module, name)
        if inspect.isclass(value):
            yield from class_parts(name, value)
        elif inspect.isfunction(value):
            yield f"### `{name}`\n\n```text\n{signature(value)}\n```\n\n{docstring(value)}"
        elif isinstance(value, dict):
            yield f"### `{name}`\n\n`{value!r}`"


def is_of_query(module: Any, name: str) -> bool:
    """Return True if a public name of a module is the same object as in `dagfusion_query`."""
    return name in dagfusion_query.__all__ and getattr(dagfusion_query, name) is getattr(module, name)


def class_parts(name: str, kind: type) -> Iterator[str]:
    """Yield the section of a class, and one for each public method that it has a docstring for."""
    yield f"### `{name}`\n\n{docstring(kind)}"
    for method, value in members(kind).items():
        function = value.fget if isinstance(value, property) else value
        if inspect.isfunction(function) and function.__doc__ and function.__module__.startswith("dagfusion"):
            call = method if isinstance(value, property) else signature(function)
            yield f"#### `{name}.{method}`\n\n```text\n{call}\n```\n\n{docstring(function)}"


def members(kind: type) -> Mapping[str, Any]:
    """Return the public members of a class, those of private bases included, base first."""
    private = [base for base in reversed(kind.__mro__[1:]) if base.__name__.startswith("_")]
    found = {name: value for owner in (*private, kind) for name, value in vars(owner).items()}
    return {name: value for name, value in found.items() if not name.startswith("_")}


def signature(function: Callable[..., Any]) -> str:
    """Return the signature of a function as its source has it."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if not isinstance(node, ast.FunctionDef):
        raise TypeError(f"the source of a function must be its definition, got {ast.unparse(node)}")
    node.args.args = [argument for argument in node.args.args if argument.arg != "self"]
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returned}"


def docstring(thing: Any) -> str:
    """Return a Google docstring as Markdown: a list for each section of it."""
    parts = []
    for paragraph in inspect.cleandoc(thing.__doc__ or "").split("\n\n"):
        title, _, body = paragraph.partition("\n")
        if SECTION.fullmatch(title):
            parts.append(f"{title}\n\n{entries(textwrap.dedent(body))}")
        else:
            parts.append(paragraph)
    return "\n\n".join(parts)


def entries(body: str) -> str:
    """Return the entries of a section as a list; a line that is indented continues the entry before it."""
    lines: list[str] = []
    for line in body.splitlines():
        if line.startswith(" ") and lines:
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(re.sub(r"^([\w, ]+): ", r"`\1`: ", line))
    return "\n".join(f"- {line}" for line in lines)


SETTINGS: Mapping[str, Sequence[Any]] = {
    "query-settings": [Settings],
    "service-settings": [ServiceSettings],
    "config-settings": [ConfigSettings],
    "client-settings": [ClientSettings],
    "stack-settings": [StackSettings],
    "store-settings": [Environment, Credentials],
}
PARTS: Mapping[str, Callable[[], str]] = {
    **{part: partial(settings_table, part) for part in SETTINGS},
    "environment-keys": environment_table,
    "compose-settings": compose_table,
    "io-manager-fields": io_manager_table,
    "configuration-keys": keys_list,
    "errors": errors_tables,
    "http-paths": http_table,
    "http-body": http_body,
    "cli": cli_help,
    "python": python_names,
}

if __name__ == "__main__":
    main()
