"""What bench.serve makes of its rounds."""

import json
import sys

import pytest

from bench import opponents, serve, servers
from bench.callers import Cell
from bench.servers import FLASK, LITSERVE, OURS
from ops.core.errors import OpsError
from ops.releases.load_test import LoadResult


def test_rate_counts_until_the_last_response():
    found = LoadResult([(200, 0.1), (200, 0.3), (503, 0.002), (0, 1.0)], 1.0)
    assert Cell.from_load_test(found, 2.0) == Cell(1.0, 0.3, 0.3, 1, 0.002, 1)
    assert Cell.from_load_test(LoadResult([], 1.0), 1.0) == Cell(0.0, None, None, 0, None, 0)


def rounds(ours: float, eager: float, over_p99: float = 0.2, refused_p99: float = 0.01):
    found = {(name, callers): [Cell(rate, 0.1, 0.15, 0, None, 0, 0.02)] * 3
             for name, rate in ((OURS, ours), (FLASK, eager), (LITSERVE, eager)) for callers in (*serve.CALLERS, 18)}  # fmt: skip
    found[FLASK, 32] = [Cell(eager + 1, 0.1, 0.15, 0, None, 0, 0.05)] * 3
    found[OURS, 72] = [Cell(ours, 0.1, over_p99, 50, refused_p99, 0, 0.02)] * 3
    return found


@pytest.mark.parametrize(
    ("found", "failing"),
    [
        (rounds(90, 30), []),
        (rounds(60, 30), ["serving/ against flask, gunicorn, torch, 32 callers"]),
        (rounds(90, 30, over_p99=0.4), ["p99 of successes, 72 callers against 18"]),
        (rounds(90, 30, refused_p99=0.06), ["p99 of refusals, 72 callers, 150 refused"]),
    ],
)
def test_checks_compare_with_the_best_of_the_others(found, failing):
    checks = list(serve.list_serving_checks(found, "here", 18, serve.MIN_SPEEDUP_AMX, 1.0))
    assert [check.name.split(": ")[1].split(", ", 1)[-1] if "serving/" in check.name else check.name.split(": ")[1]
            for check in checks if not check.ok] == failing  # fmt: skip


def test_table_has_every_server_and_number_of_callers():
    lines = serve.summarise_cells(rounds(90, 30), "here")
    assert len(lines) == 13
    assert lines[0]["server"] == OURS
    assert "18" in serve.format_rows(lines)
    json.dumps(lines, allow_nan=False)


def test_other_servers_use_the_torch_of_this_environment(monkeypatch, tmp_path):
    """Nothing is measured that would compare two versions of torch."""
    monkeypatch.setattr(opponents, "VENV", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / ".ready").touch()
    assert servers.find_python() == tmp_path / "bin" / "python"
    (tmp_path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages" / "torch").mkdir(
        parents=True
    )
    with pytest.raises(OpsError, match="has its own torch"):
        servers.find_python()
