"""Scenes on a Ray cluster: the same bytes as on one machine, also when machines are lost."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

import segscape
from segscape.scenes import outputs as arrays
from segscape.scenes import planner
from segscape.scenes import scene as scenes
from segscape.scenes import tiling as tiling_worker
from segscape.scenes.cluster.connection import WorkerShare, connection
from segscape.scenes.cluster.driver import segment_on_ray
from segscape.scenes.cluster.worker import SceneOrder, SceneWorker
from segscape.scenes.files import SceneFiles
from segscape.scenes.pipeline import open_tasks
from segscape.scenes.scene import Scene, SceneSettings
from segscape.scenes.streaming import plan as streaming_plan
from segscape.segmentation.segmenter import Segmenter

GIB = 1 << 30
STREAMED = SceneSettings(memory=30 << 20, context="scene")
TILED = SceneSettings(memory=400 << 20, context="window")


def cut_small_blocks() -> None:
    """Make blocks so small that a photograph has several."""
    planner._MOST_BATCH_PIXELS = 256 * 256
    tiling_worker._MOST_BLOCK_PIXELS = 2 * 256 * 256
    arrays._MOST_BLOCK_PIXELS = 480 * 200
    streaming_plan._LEAST_BLOCK_PIXELS = 300 * 300
    streaming_plan._MOST_BLOCK_OVERHEAD = 10.0


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (planner, "_MOST_BATCH_PIXELS"),
        (tiling_worker, "_MOST_BLOCK_PIXELS"),
        (arrays, "_MOST_BLOCK_PIXELS"),
        (streaming_plan, "_LEAST_BLOCK_PIXELS"),
        (streaming_plan, "_MOST_BLOCK_OVERHEAD"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    cut_small_blocks()
    # The tests' own process is of no known size.
    monkeypatch.setattr(scenes, "resident", lambda: 0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Convolutions round differently on another number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return segscape.Segmenter.from_weights("scapenet_lite0.aerial", device="cpu")


@pytest.fixture
def image(tmp_path: Path, camvid_examples: Path) -> Path:
    """Two real frames, one above the other, in a GeoTIFF of blocks."""
    frames = sorted((camvid_examples / "images" / "val").iterdir())[:2]
    pixels = np.concatenate([np.asarray(Image.open(frame)) for frame in frames])
    path = tmp_path / "scene.tif"
    profile = {"height": len(pixels), "width": pixels.shape[1], "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", tiled=True, blockxsize=128, blockysize=128, compress="deflate", **profile) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


@pytest.fixture
def damaged(image: Path) -> Path:
    """The same with zeros in the place of its last blocks: it opens, and fails where they are read."""
    content = bytearray(image.read_bytes())
    content[-60_000:] = bytes(60_000)
    path = image.with_name("damaged.tif")
    path.write_bytes(content)
    return path


def outputs(image: Path, name: str) -> SceneFiles:
    folder = image.parent / name
    return SceneFiles(folder / "labels.tif", folder / "confidence.tif", folder / "scores.tif")


def contents(files: SceneFiles) -> list[bytes]:
    return [path.read_bytes() for path in files.paths]


def run_here(segmenter: Segmenter, image: Path, files: SceneFiles, settings: SceneSettings) -> dict[str, float]:
    with Scene(segmenter, image, files, settings) as scene:
        return scene.run(on_progress=lambda share: None)


def answers(worker: SceneWorker, scene: Scene) -> list[dict[str, Any]]:
    tasks, _ = open_tasks(scene.worker, scene.journal)
    return [worker({"scene": 0, **task._asdict()}) for task in tasks]


def order(image: Path, files: SceneFiles, settings: SceneSettings) -> SceneOrder:
    return SceneOrder(image, files, settings, {})


@pytest.mark.parametrize(
    ("machines", "memory", "share"),
    [
        ([{"CPU": 16.0, "memory": 64.0 * GIB}], 2 * GIB, WorkerShare(4, 0, 2 * GIB, 4)),
        ([{"CPU": 16.0, "memory": 20.0 * GIB}], 10 * GIB, WorkerShare(8, 0, 10 * GIB, 2)),
        ([{"memory": 9.0 * GIB}, {"CPU": 2.0, "memory": 9.0 * GIB}], GIB, WorkerShare(2, 0, GIB, 1)),
        ([{"CPU": 64.0, "memory": GIB}, {"CPU": 8.0, "memory": 32.0 * GIB}], 8 * GIB, WorkerShare(4, 0, 8 * GIB, 2)),
        ([{"CPU": 32.0, "GPU": 4.0}, {"CPU": 64.0, "memory": 64.0 * GIB}], 8 * GIB, WorkerShare(2, 1, 0, 4)),
    ],
    ids=["plenty", "scarce memory", "head without CPUs", "too little memory on one", "GPUs"],
)
def test_share_of_a_machine(machines: list[dict[str, float]], memory: int, share: WorkerShare) -> None:
    assert WorkerShare.of(machines, memory=memory) == share


def test_no_machine_has_room() -> None:
    with pytest.raises(ValueError, match=r"3\.0 GiB"):
        WorkerShare.of([{"CPU": 4.0, "memory": 2.0 * GIB}], memory=3 * GIB)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "somewhere"])
def test_no_cluster(address: str) -> None:
    with pytest.raises(ConnectionError, match="There is no Ray cluster at the address"), connection(address):
        pass


@pytest.mark.parametrize("settings", [TILED, STREAMED], ids=["tiled", "streamed"])
def test_worker_does_what_a_scene_does(segmenter: Segmenter, image: Path, settings: SceneSettings) -> None:
    here, there = outputs(image, "here"), outputs(image, "there")
    expected = run_here(segmenter, image, here, settings)
    with Scene(segmenter, image, there, settings) as scene:
        assert len(scene.worker.tasks()[0]) > 1
        tasks, sums = open_tasks(scene.worker, scene.journal)
        while tasks:
            worker = SceneWorker(segmenter, [SceneOrder(image, there, settings, sums)])
            # The last first: any order will do.
            for task in reversed(tasks):
                answer = worker({"scene": 0, **task._asdict()})
                assert answer["error"] == ""
                scene.journal.add(task, json.loads(answer["sums"]))
            tasks, sums = open_tasks(scene.worker, scene.journal)
        assert scene.finish() == expected
    assert contents(there) == contents(here)


def test_worker_tells_of_a_damaged_image(segmenter: Segmenter, damaged: Path) -> None:
    files = outputs(damaged, "out")
    with Scene(segmenter, damaged, files, TILED) as scene:
        told = answers(SceneWorker(segmenter, [order(damaged, files, TILED)]), scene)
    assert {answer["error"] for answer in told} == {"", "ValueError"}
    assert any("cannot be decoded" in answer["message"] for answer in told)


def test_worker_that_sees_no_folder(segmenter: Segmenter, image: Path) -> None:
    files, elsewhere = outputs(image, "out"), outputs(image, "elsewhere")
    with Scene(segmenter, image, files, TILED) as scene:
        told = answers(SceneWorker(segmenter, [order(image, elsewhere, TILED)]), scene)
        assert all("does not see" in answer["message"] and answer["error"] == "OSError" for answer in told)
        told = answers(SceneWorker(segmenter, [order(image.with_name("none.tif"), files, TILED)]), scene)
        assert all("under the same paths" in answer["message"] for answer in told)


def test_worker_with_another_image(segmenter: Segmenter, image: Path) -> None:
    files = outputs(image, "out")
    with Scene(segmenter, image, files, TILED) as scene:
        tasks, _ = open_tasks(scene.worker, scene.journal)
        image.touch()
        answer = SceneWorker(segmenter, [order(image, files, TILED)])({"scene": 0, **tasks[0]._asdict()})
    assert answer["error"] == "ValueError"
    assert "image" in answer["message"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Four machines that are processes here, the first of which does no tasks."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # Workers cannot import the tests.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    store = {"object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **store})
    for _ in range(3):
        cluster.add_node(num_cpus=1, memory=2 * GIB, **store)
    ray.init(
        cluster.address,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"worker_process_setup_hook": cut_small_blocks},
    )
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.heavy
def test_machine_lost_and_an_image_damaged(cluster: Any, segmenter: Segmenter, image: Path, damaged: Path) -> None:
    here, there = outputs(image, "here"), outputs(image, "there")
    expected = run_here(segmenter, image, here, TILED)
    shares: list[float] = []

    def on_progress(share: float) -> None:
        if not shares:
            cluster.remove_node(sorted(cluster.worker_nodes, key=str)[0], allow_graceful=False)
        shares.append(share)

    scenes_there = {damaged: outputs(image, "damaged"), image: there}
    results = dict(segment_on_ray(segmenter, scenes_there, TILED, address="auto", on_progress=on_progress))
    assert len(cluster.worker_nodes) == 2
    assert isinstance(results[damaged], ValueError)
    assert "cannot be decoded" in str(results[damaged])
    assert results[image] == expected
    assert contents(there) == contents(here)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert not any(path.name.endswith(".unfinished") for path in image.parent.rglob("*"))


@pytest.mark.heavy
def test_interrupted_cluster_run_is_gone_on_with_here(cluster: Any, segmenter: Segmenter, image: Path) -> None:
    here, there = outputs(image, "here"), outputs(image, "there")
    expected = run_here(segmenter, image, here, STREAMED)
    steps = 0

    def stop(share: float) -> None:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(segment_on_ray(segmenter, {image: there}, STREAMED, address="auto", on_progress=stop))
    with Scene(segmenter, image, there, STREAMED) as scene:
        assert scene.plan.mode == "streaming"
        assert len(scene.journal.done) == 4
        assert scene.run(on_progress=lambda share: None) == expected
    assert contents(there) == contents(here)
