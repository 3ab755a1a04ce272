"""Runs that read from Google's store and from the Hugging Face Hub, and write there: ``make stores``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import classifiers
import openvino as ov
import pytest
from gs_server import gs_server
from hub_server import HubServer, hub_server
from shard_runs import LABELS, differing, left_by, write_photos

from otx_xai import Engine
from otx_xai.storage import Url, exists, patience, read_bytes, remove, write_whole
from otx_xai.storage.objects import look, objects_below, remove_object, write_object
from otx_xai.storage.patience import Patience

pytestmark = [pytest.mark.usefixtures("ctrl_c"), pytest.mark.filterwarnings("default")]

SECRET = "hf_hush4f1c"
HUB = "hf://datasets/me/data"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, photos, and what one process makes of them on this machine."""
    folder = tmp_path_factory.mktemp("local")
    ov.save_model(classifiers.colour_classifier(), folder / "model/colours.xml", compress_to_fp16=False)
    write_photos(folder / "photos", 9, (4,))
    for pack in (None, "tar"):
        explain(str(folder), folder / f"out_{pack}", pack=pack)
    return folder


@pytest.fixture
def _patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTX_XAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(patience, "PATIENCE", Patience(first_wait=0.01, longest_wait=0.2, seconds=20))


@pytest.fixture
def hub(local: Path, _patient: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The Hub with one repository; its file system is told of it as users do where they have one of their own."""
    from huggingface_hub import HfFileSystem, constants

    with hub_server() as server:
        place = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + place)
        monkeypatch.setattr(constants, "ENDPOINT", server.address)  # HF_ENDPOINT counts when the package is imported
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", SECRET)
        HfFileSystem.clear_instance_cache()
        server.files["me/data"] = {
            file.relative_to(local).as_posix(): file.read_bytes()
            for folder in ("model", "photos")
            for file in (local / folder).rglob("*")
            if file.is_file()
        }
        yield server


@pytest.fixture
def gs(local: Path, _patient: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket in Google's store, with the photos and the model in it."""
    # else it asks by another protocol what kind of bucket it is, and reads this as it is imported
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    import gcsfs

    with gs_server("bucket") as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
        gcsfs.GCSFileSystem.clear_instance_cache()
        for file in local.rglob("*"):
            place = file.relative_to(local).as_posix()
            if file.is_file() and place.startswith(("model/", "photos/")):
                write_whole(f"gs://bucket/{place}", file.read_bytes())
        yield "gs://bucket"


def explain(source: str, work_dir: str | Path, **options: object) -> None:
    told = {"dump": True, "labels": LABELS, "pack_size": 4} | options
    Engine(work_dir=work_dir).explain(f"{source}/model/colours.xml", data_root=f"{source}/photos", **told)


def fetched(url: str, folder: Path, source: str) -> dict[str, bytes]:
    for name in objects_below(Url(url)):
        write_whole(folder / name, read_bytes(Url(url) / name))
    return results(folder, source)


def results(folder: Path, source: str) -> dict[str, bytes]:
    """Return what a run has left but for its settings, whatever it has read from."""
    left = {name: data.replace(source.encode(), b"SOURCE") for name, data in left_by(folder).items()}
    left.pop("config.yaml")
    left["run.json"] = re.sub(rb'"fingerprint": "[0-9a-f]{64}"', b"", left["run.json"])  # of settings that name places
    return left


def walk_through(source: str, local: Path, tmp_path: Path) -> None:
    """A run with pictures one by one, one in packs, and one in two shards that are merged."""
    for pack in (None, "tar"):
        explain(source, f"{source}/out_{pack}", pack=pack)
        left = fetched(f"{source}/out_{pack}", tmp_path / f"{pack}", source)
        assert not differing(left, results(local / f"out_{pack}", str(local)))
    for number in (1, 2):
        explain(source, f"{source}/shards", pack="tar", shard=f"{number}/2")
    assert len(Engine(work_dir=f"{source}/shards").merge().failures) == 1
    assert not [name for name in objects_below(Url(f"{source}/shards")) if name.startswith((".", "shards/"))]


def ask(folder: Url) -> None:
    """What is put, read, listed and removed is so at once, whatever was listed before."""
    one = folder / "deep/er/a.txt"
    assert look(one) is None
    assert not remove_object(one)
    assert objects_below(folder) == {}
    with pytest.raises(FileNotFoundError):
        read_bytes(one)
    write_object(one, b"first", only_new=True)
    with pytest.raises(FileExistsError):
        write_object(one, b"second", only_new=True)
    tag = objects_below(folder)["deep/er/a.txt"].tag
    assert look(one) == objects_below(folder)["deep/er/a.txt"]
    write_whole(one, b"longer than that")
    assert read_bytes(one) == b"longer than that"
    assert exists(one)
    assert look(one).tag not in ("", tag)  # type: ignore[union-attr]
    remove(one)
    assert not exists(one)
    assert objects_below(folder) == {}


def test_runs_on_the_hub(hub: HubServer, local: Path, tmp_path: Path) -> None:
    walk_through(HUB, local, tmp_path)
    assert not [name for name, data in hub.files["me/data"].items() if SECRET.encode() in data]


def test_files_of_the_hub(hub: HubServer) -> None:
    ask(Url(f"{HUB}/asked"))
    with pytest.raises(FileNotFoundError):
        read_bytes("hf://datasets/me/absent/a.txt")


def test_no_folder_of_the_hub_is_listed_to_read_a_file_in_it(hub: HubServer) -> None:
    for name in ("0000", "0002", "0000"):
        read_bytes(f"{HUB}/photos/a/{name}.png")
        assert look(Url(f"{HUB}/photos/a/{name}.png")) is not None
    assert not [path for path in hub.asked if "/tree/" in path]
    objects_below(Url(f"{HUB}/photos"))
    assert [path for path in hub.asked if "/tree/" in path]


def test_runs_on_google(gs: str, local: Path, tmp_path: Path) -> None:
    walk_through(gs, local, tmp_path)


def test_files_on_google(gs: str) -> None:
    ask(Url(f"{gs}/asked"))


def test_of_many_who_put_on_google_what_must_be_new_one_succeeds(gs: str) -> None:
    def put(number: int) -> bool:
        try:
            write_object(Url(f"{gs}/lock"), str(number).encode(), only_new=True)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number, won in enumerate(pool.map(put, range(8))) if won]
    assert [str(number).encode() for number in winners] == [read_bytes(f"{gs}/lock")]
