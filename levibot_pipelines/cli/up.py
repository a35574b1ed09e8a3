"""`levibot up`: the Dagster UI and daemon, the MLflow UI and the inference API, in the foreground."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from levibot_core.config import load_settings
from levibot_core.errors import LevibotError
from levibot_core.security.users import UsersFile
from levibot_core.stores.paths import Home
from levibot_pipelines.cli.output import messages
from levibot_pipelines.instance import prepare_instance
from levibot_pipelines.servers import Ports, Server, free_ports_or_refuse, run_servers, server_commands
from levibot_pipelines.workspace import Workspace
from levibot_serving.worker_metrics import empty_worker_metrics


def up(
    dagster_port: Annotated[int, typer.Option(envvar="LEVIBOT_DAGSTER_PORT", help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(envvar="LEVIBOT_MLFLOW_PORT", help="Port of the MLflow UI.")] = 5000,
    api_port: Annotated[int, typer.Option(envvar="LEVIBOT_API_PORT", help="Port of the inference API.")] = 8000,
    api_workers: Annotated[
        int, typer.Option(envvar="LEVIBOT_API_WORKERS", min=1, max=64, help="Processes of the inference API.")
    ] = 1,
) -> None:
    """Start the Dagster UI, the MLflow UI and the inference API on 127.0.0.1; Ctrl-C stops all of them."""
    # Brings the training libraries, which no other command of this module's neighbours needs.
    from levibot_pipelines.registration import ensure_base_rate

    settings = load_settings()
    ports = Ports(dagster_port, mlflow_port, api_port)
    free_ports_or_refuse(ports)
    workspace = Workspace.open(settings)
    workspace.home.require_free_space()
    prepare_instance(workspace.home)
    ensure_base_rate(workspace)
    fill_online_store(workspace)
    root = Path(__file__).resolve().parents[2]
    _say_who_may_sign_in(workspace.home)
    empty_worker_metrics(workspace.home)
    servers = server_commands(workspace.home, root, ports, api_workers)
    run_servers(servers, workspace.home.logs, dict(os.environ), on_state=_announce)


def fill_online_store(workspace: Workspace) -> None:
    """Put the newest vectors before the API starts; say why when that fails, and go on.

    The API says the same at `/healthz`, and a sensor fills an empty store as soon as it can be reached.
    """
    # Brings Polars and the feature kernels.
    from levibot_pipelines.online import warm_up

    if workspace.lake.current_source() is None:
        return
    try:
        vectors = warm_up(workspace)
    except LevibotError as error:
        messages.print(f"[bold yellow]{'Online store':<14}[/] {escape(str(error))}", soft_wrap=True)
    else:
        store = escape(workspace.online_store.place)
        messages.print(f"[bold]{'Online store':<14}[/] {len(vectors.complete)} vectors in {store}", soft_wrap=True)


def _say_who_may_sign_in(home: Home) -> None:
    if not UsersFile(home.users).read():
        command = "levibot users add NAME --role admin"
        text = f"nobody can sign in to the inference API yet; add the first admin, also while it runs: {command}"
        messages.print(f"[bold yellow]{'Users':<14}[/] {text}", soft_wrap=True)


def _announce(server: Server, state: str) -> None:
    messages.print(f"[bold]{server.title:<14}[/] {state}", soft_wrap=True)
