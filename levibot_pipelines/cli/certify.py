"""`levibot certify`: how often the platform promotes a model that knows nothing, measured."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from levibot_core.config import load_settings
from levibot_core.stores.paths import Home
from levibot_core.validation.certificate import FIRST_SEED, Certificate, MarketOutcome
from levibot_core.validation.certificate_page import percent, verdict
from levibot_core.validation.certificate_verdict import judge_certificate
from levibot_pipelines.cli.output import JsonOption, messages, print_facts, print_json, print_notes, print_table


def certify(
    markets: Annotated[int, typer.Option(min=1, help="Markets without an edge.")] = 20,
    planted: Annotated[
        int | None, typer.Option(min=1, help="Markets with each planted edge; a tenth, at least two, if unset.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first market; the next ones follow.")] = FIRST_SEED,
    out: Annotated[Path | None, typer.Option(help="Folder to keep it in; among the home's reports if unset.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the platform on markets whose truth is known, and publish how often it is wrong.

    A run that was stopped goes on where it was: finished markets count as long as the code is the same. Exit code 1
    when more were promoted falsely than a share of 5 % explains.
    """
    from levibot_pipelines.certification import certify as run_certificate  # Seconds of libraries.

    settings = load_settings()
    folder = out or Home.at(settings.home).reports / "certificate"
    with _Bar() as bar:
        files = run_certificate(settings, markets, seed, folder, bar.show, planted=planted)
    certificate = files.certificate
    against = judge_certificate(certificate)
    if as_json:
        print_json(
            {
                "markets": certificate.markets,
                "false_promotions": certificate.false_promotions,
                "upper_bound_95": certificate.upper_bound_95,
                "most_explained": against.most_explained,
                "refuted": against.refuted,
                "power": {f"{share.edge:g}": share.share for share in certificate.power},
                "seed": certificate.platform.seed,
                "code_version": certificate.platform.code_version,
                "json": str(files.json_file),
                "html": str(files.html),
            }
        )
    else:
        _print(certificate)
        print_facts("Where to look", [("page", files.html), ("JSON", files.json_file)])
    if against.refuted:
        messages.print(f"Refuted: {against.found} (required: {against.required})", soft_wrap=True, markup=False)
        raise typer.Exit(1)


def _print(certificate: Certificate) -> None:
    rows = [
        (share.name, f"{share.promoted} of {share.markets}", f"{percent(share.lower_95)} to {percent(share.upper_95)}")
        for share in (*certificate.kinds, *certificate.power)
    ]
    print_table("False-promotion certificate", ("market", "promoted", "share of such markets (95 %)"), rows)
    print_notes([verdict(certificate)])


class _Bar:
    """A line that is redrawn on a terminal; in a log file a line per market."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=messages,
            transient=True,
        )
        self._task = self._bar.add_task("markets")

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, finished: int, total: int, outcome: MarketOutcome | None) -> None:
        """Take in that a market is finished; None says how many were before."""
        self._bar.update(self._task, completed=finished, total=total)
        if outcome is not None and not messages.is_terminal:
            about = f"{outcome.market.name}, seed {outcome.market.seed}: {outcome.verdict}, {outcome.seconds:.0f} s"
            messages.print(f"{finished}/{total} {about}", highlight=False, soft_wrap=True, markup=False)
