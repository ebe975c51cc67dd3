"""An archive from the web: whole after any number of broken connections, and harmless whatever is in it."""

import json

import pytest

from ops.datasets import download, fetch
from tests.unit.test_data_fetch import COUNTS, Web, zipped


@pytest.fixture
def web(monkeypatch, tmp_path):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(fetch, "WORK", tmp_path / "work")
    served = Web(zipped())
    yield served
    served.server.shutdown()


def test_second_fetch_makes_no_request(web, make_stack, tmp_path):
    cli = make_stack("fetch")
    assert "would download" in cli("--dry", "data.fetch", web.url, "--dir", str(tmp_path / "p")).out
    assert not (tmp_path / "p").exists()
    fetched = json.loads(cli("data.fetch", web.url, "--dir", str(tmp_path / "p"), "--json").out)
    assert fetched["pictures"] == COUNTS
    assert json.loads((tmp_path / "p" / "source.json").read_text())["sha256"] == fetched["sha256"]
    asked = len(web.asked)
    cli("data.fetch", web.url, "--dir", str(tmp_path / "p"))
    assert len(web.asked) == asked
    assert (tmp_path / "p" / "train" / "001.Affenpinscher" / "001.Affenpinscher_0.jpg").stat().st_size > 1000
    assert cli("data.check", "--dir", str(tmp_path / "p"), ok=False).code == 7  # the same picture in two classes
