"""Which variables of the user's shell the stack's query service gets."""

from pathlib import Path

import pytest

from dagfusion_stack import query_service


def test_limits_are_kept_and_where_it_listens_is_the_stacks() -> None:
    shell = {
        "DAGFUSION_WORKERS": "3",
        "DAGFUSION_QUEUE_LENGTH": "",
        "DAGFUSION_HTTP_ADDRESS": "0.0.0.0:80",
        "DAGFUSION_TLS_CERTIFICATE": "tls.pem",
        "DAGFUSION_TLS_KEY": "tls.key",
        "DAGFUSION_EVENT_LOG": "/elsewhere",
    }
    assert query_service._limits(shell) == {"DAGFUSION_WORKERS": "3"}


def test_tokens_are_where_the_command_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = query_service._limits({"DAGFUSION_TOKENS": "tokens.json"})
    assert told == {"DAGFUSION_TOKENS": str(tmp_path / "tokens.json")}


def test_the_shell_decides_whether_iceberg_clients_get_keys() -> None:
    chosen = {"DAGFUSION_ICEBERG_CREDENTIALS": "keys", "DAGFUSION_ICEBERG_CONSOLIDATED": "local_silver.*"}
    assert query_service._limits({**chosen, "DAGFUSION_ICEBERG_METADATA": "s3://another/folder"}) == chosen
