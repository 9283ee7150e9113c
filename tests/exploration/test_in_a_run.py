import json

import pytest
from fakes.tiny_runs import SMALLEST, train
from fakes.tones import write_tones


@pytest.mark.heavy
def test_a_run_has_scores_by_signal_to_noise_ratio_and_on_request_the_page_which_its_report_links_to(tmp_path):
    manifest = write_tones(tmp_path / "tones", clips_per_class=10)
    flags = ["--backbone_config", json.dumps(SMALLEST), "--num_proc", "1", "--accept_near_copies", "true"]
    run = train(tmp_path / "run", manifest, *flags, "--data_page", "true")
    groups = json.loads((run / "results.json").read_text())["snr"]
    assert [group["n"] for group in groups] == [20, 20, 20]
    assert "Recording quality" in (run / "data.html").read_text("utf-8")
    assert '<a href="data.html">Data</a>' in (run / "report.html").read_text("utf-8")
