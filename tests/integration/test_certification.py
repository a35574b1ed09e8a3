"""A certificate over tiny markets: one through every stage, and a run that is stopped and goes on where it was."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from levibot_core.config import Settings, TrainingProfile, load_settings
from levibot_core.errors import ConfigurationError, HomeBusyError
from levibot_core.validation.certificate import Market, MarketOutcome
from levibot_core.validation.gates import LossComparison
from levibot_pipelines.certification import DATABASE, OUTCOMES, CertificateFiles, Job, certify, market_settings, run_job
from levibot_pipelines.cli.main import app

_PROFILE = TrainingProfile(
    name="tiny",
    trials=2,
    family_trials={"xgboost": 1},
    max_rounds=10,
    early_stopping_rounds=5,
    max_bin=15,
    drift_rows=100,
)
_PLAN = tuple(
    Market(kind="simulated", seed=seed, edge=edge, days=6, symbols=("BTC/USDT",))
    for seed, edge in ((1, 0.0), (2, 0.0), (3, 0.2))
)


@pytest.fixture
def folder(tmp_path: Path, migrated_registry: Path) -> Path:
    """A certificate's folder with its database made, which takes eight seconds."""
    made = tmp_path / "certificate"
    made.mkdir()
    shutil.copy(migrated_registry, made / DATABASE)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Nothing of the person who runs the tests."""
    read = load_settings(home=tmp_path / "home", feature_set="v1", horizon_bars=3, threads=1)
    return read.model_copy(update={"market_data": None})


class _Told:
    """Runs no market: says what came of each, until it is stopped."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked: list[Market] = []
        self._stop_after = stop_after

    def __call__(self, jobs: Sequence[Job]) -> Iterator[MarketOutcome]:
        for job in jobs:
            if len(self.asked) == self._stop_after:
                raise KeyboardInterrupt
            self.asked.append(job.market)
            loss = LossComparison(reference="a half", mean=0.001, lower_95=-0.1, upper_95=0.1, upper_999=0.2)
            yield MarketOutcome(
                market=job.market,
                family="lightgbm",
                promoted=False,
                refused_by=("beats_champion",),
                against_champion=loss,
                against_base_rate=loss,
                test_rows=10,
                seconds=1.0,
            )


def _certify(settings: Settings, folder: Path, run: _Told) -> tuple[CertificateFiles, list[int]]:
    seen: list[int] = []
    return certify(settings, 2, 1, folder, lambda done, *_: seen.append(done), _PLAN, run), seen


def test_a_market_goes_from_its_source_to_the_verdict_and_leaves_nothing(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("levibot_pipelines.workspace.load_profile", lambda _: _PROFILE)
    one_family = settings.model_copy(update={"families": ("lightgbm",)})
    files = certify(one_family, 1, 1, folder, lambda *_: None, _PLAN[:1], lambda jobs: map(run_job, jobs))
    outcome = files.certificate.outcomes[0]
    assert (outcome.market, outcome.promoted) == (_PLAN[0], False)
    assert "beats_champion" in outcome.refused_by
    assert not {"provenance", "rebuild", "latency", "leak_check"} & set(outcome.refused_by)
    assert outcome.family == "lightgbm" and outcome.test_rows > 200 and outcome.seconds > 0.0
    assert outcome.against_champion.reference == "the champion, version 1"
    assert {path.name for path in folder.iterdir()} >= {"certificate.json", "certificate.html", OUTCOMES, DATABASE}
    assert not [path for path in folder.iterdir() if path.is_dir()]
    assert not settings.home.exists()


def test_a_stopped_run_goes_on_with_the_markets_that_are_missing(settings: Settings, folder: Path) -> None:
    stopped = _Told(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        _certify(settings, folder, stopped)
    assert stopped.asked == [_PLAN[0]]
    (folder / ".market-left-by-a-killed-run").mkdir()
    # The last line of a run that was killed while it wrote.
    with (folder / OUTCOMES).open("ab") as file:
        file.write(b'{"code": "src.')
    again = _Told()
    files, seen = _certify(settings, folder, again)
    assert again.asked == list(_PLAN[1:])
    assert seen == [1, 2, 3]
    assert not (folder / ".market-left-by-a-killed-run").exists()
    written = json.loads(files.json_file.read_text("utf-8"))
    assert (written["markets"], written["false_promotions"], written["platform"]["seed"]) == (2, 0, 1)
    assert [outcome["market"]["seed"] for outcome in written["outcomes"]] == [1, 2, 3]
    finished = _Told()
    assert _certify(settings, folder, finished)[0].certificate.outcomes == files.certificate.outcomes
    assert finished.asked == []


def test_outcomes_of_other_settings_do_not_count(settings: Settings, folder: Path) -> None:
    _certify(settings, folder, _Told())
    other = _Told()
    files, _ = _certify(settings.model_copy(update={"feature_set": "v2"}), folder, other)
    assert other.asked == list(_PLAN)
    assert files.certificate.platform.families == ("lightgbm", "xgboost")


def test_the_command_prints_what_a_finished_certificate_says(settings: Settings, folder: Path) -> None:
    environment = {
        "LEVIBOT_HOME": str(settings.home),
        "LEVIBOT_MARKET_DATA": None,
        "LEVIBOT_FEATURE_SET": "v1",
        "LEVIBOT_HORIZON_BARS": "3",
    }
    certify(settings, 20, 1001, folder, lambda *_: None, run=_Told())
    printed = CliRunner().invoke(app, ["certify", "--json", "--out", str(folder)], env=environment)
    assert printed.exit_code == 0, printed.output
    answer = json.loads(printed.stdout)
    assert (answer["markets"], answer["false_promotions"], answer["seed"]) == (20, 0, 1001)
    assert answer["upper_bound_95"] == pytest.approx(0.1391, abs=5e-5)
    assert answer["power"] == {"0.1": 0.0, "0.15": 0.0, "0.2": 0.0, "0.3": 0.0}
    assert Path(answer["html"]) == folder / "certificate.html"
    table = CliRunner().invoke(app, ["certify", "--out", str(folder)], env=environment)
    assert "at most 14 % of such markets" in " ".join(table.output.split())


def test_two_runs_in_one_folder_are_refused(settings: Settings, folder: Path) -> None:
    def another(_: Sequence[Job]) -> Iterator[MarketOutcome]:
        with pytest.raises(HomeBusyError, match="another process certifies"):
            _certify(settings, folder, _Told())
        return iter(())

    with pytest.raises(KeyError):
        certify(settings, 2, 1, folder, lambda *_: None, _PLAN, another)


def test_what_cannot_be_certified_is_said(settings: Settings, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="family whose training takes seconds"):
        _certify(settings.model_copy(update={"families": ("tft",)}), folder, _Told())
    with pytest.raises(ConfigurationError, match="LEVIBOT_MARKET_DATA"):
        market_settings(settings, Market(kind="sign", seed=1, days=6, symbols=("BTC/USDT",)), folder)
