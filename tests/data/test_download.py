import pytest
from fakes.fake_corpora import POINTER, archive_of, published, serving

from ser.data.corpora.download import download


@pytest.fixture
def online(monkeypatch):
    """Lets the code under test use the network; the tests give it this machine's addresses only."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("ranges", [True, False], ids=["resumed", "from the start where the server cannot"])
def test_a_stopped_download_is_finished(ranges, tmp_path):
    data = archive_of(tmp_path / "source.zip", "a.wav")
    (tmp_path / "female.zip.part").write_bytes(data[:100])
    with serving({"/female.zip": data}, ranges) as (address, asked):
        path = download(published(data, f"{address}/female.zip"), tmp_path / "female.zip")
    assert path.read_bytes() == data
    assert asked == [("/female.zip", "bytes=100-")]
    assert not (tmp_path / "female.zip.part").exists()


@pytest.mark.usefixtures("online")
def test_the_second_address_is_tried_when_the_first_has_only_a_pointer(tmp_path):
    data = archive_of(tmp_path / "source.zip", "a.wav")
    with serving({"/a": POINTER, "/b": data}) as (address, _):
        path = download(published(data, f"{address}/a", f"{address}/b"), tmp_path / "female.zip")
    assert path.read_bytes() == data


@pytest.mark.usefixtures("online")
def test_a_download_that_fails_everywhere_says_why_for_each_address_and_leaves_no_archive(tmp_path):
    data = archive_of(tmp_path / "source.zip", "a.wav")
    with serving({"/pointer": POINTER, "/other": data[:-1] + b"!"}) as (address, _):
        urls = [f"{address}/{name}" for name in ("gone", "pointer", "other")]
        with pytest.raises(ConnectionError, match=r"(?s)404.*LFS pointer.*not the published file"):
            download(published(data, *urls), tmp_path / "female.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["source.zip"]
