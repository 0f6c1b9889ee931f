"""The layout of each download, and the files that are prepared from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from segscape.data.masks import read_corner_mask, read_indices, read_matlab_mask
from segscape.data.prepare.plan import Plan, read_split
from segscape.data.scan import files_by_name
from segscape.labels import (
    CAMVID,
    CAMVID_ORIGINAL,
    CAMVID_RAW,
    COCO_STUFF_10K,
    COCO_STUFF_10K_RAW,
    COCO_STUFF_164K,
    DEEPGLOBE,
    INRIA_AERIAL,
    INRIA_AERIAL_RAW,
)
from segscape.rasters.image import write_labels

_SPLITS = ("train", "val", "test")


def plan_camvid(source: Path) -> Plan:
    """Plan SegNet's CamVid: `<split>/*.png` and `<split>annot/*.png`, where 11 is void."""
    plan = Plan()
    for split in _SPLITS:
        images, labels = files_by_name(source / split, ".png"), files_by_name(source / f"{split}annot", ".png")
        plan.add(
            split,
            sorted(images | labels),
            images,
            labels,
            image_target=f"images/{split}/{{name}}.png",
            label_target=f"labels/{split}/{{name}}.png",
            write_label=_write_camvid,
        )
    return plan


def plan_camvid_original(source: Path) -> Plan:
    """Plan CamVid's frames and colour-coded labels, either all together as downloaded or in folders by split."""
    plan = Plan()
    images = files_by_name(source / "701_StillsRaw_full", ".png")
    labels = files_by_name(source / "LabeledApproved_full", "_L.png")
    together = bool(images or labels)
    listed = {split: read_split("camvid", split) for split in ("train", "val")}
    for split in _SPLITS:
        if not together:
            images = files_by_name(source / "images" / split, ".png")
            labels = files_by_name(source / "annotations" / split, "_L.png")
            names = sorted(images | labels)
        else:
            # The published test split is what the two others leave over.
            names = listed.get(split) or sorted((images | labels).keys() - {*listed["train"], *listed["val"]})
        plan.add(
            split,
            names,
            images,
            labels,
            image_target=f"images/{split}/{{name}}.png",
            label_target=f"TrainID/{split}/{{name}}_L_TrainID.png",
            write_label=_write_camvid_original,
        )
    return plan


def plan_coco_stuff_10k(source: Path) -> Plan:
    """Plan COCO-Stuff 10k's archive: `images/*.jpg`, `annotations/*.mat` and `imageLists/<split>.txt`."""
    plan = Plan()
    images, labels = files_by_name(source / "images", ".jpg"), files_by_name(source / "annotations", ".mat")
    for split in ("train", "test"):
        listed = source / "imageLists" / f"{split}.txt"
        plan.add(
            split,
            listed.read_text().split() if listed.is_file() else [],
            images,
            labels,
            image_target=f"images/{split}2014/{{name}}.jpg",
            label_target=f"annotations/{split}2014/{{name}}_labelTrainIds.png",
            write_label=_write_coco_stuff_10k,
        )
    return plan


def plan_coco_stuff_164k(source: Path) -> Plan:
    """Plan COCO's `train2017` and `val2017`, and the folders of the same names with the stuff and thing maps."""
    plan = Plan()
    for split in ("train", "val"):
        images = files_by_name(source / "images" / f"{split}2017", ".jpg")
        found = files_by_name(source / "annotations" / f"{split}2017", ".png")
        labels = {name: path for name, path in found.items() if not name.endswith("_labelTrainIds")}
        plan.add(
            split,
            sorted(images | labels),
            images,
            labels,
            image_target=f"images/{split}2017/{{name}}.jpg",
            label_target=f"annotations/{split}2017/{{name}}_labelTrainIds.png",
            write_label=_write_coco_stuff_164k,
        )
    return plan


def plan_deepglobe(source: Path) -> Plan:
    """Plan DeepGlobe's labelled part: `<id>_sat.jpg` and `<id>_mask.png` in one folder, split by GLNet's lists."""
    plan = Plan()
    folder = next((path for path in (source / "land-train", source / "train") if path.is_dir()), source)
    images, labels = files_by_name(folder, "_sat.jpg"), files_by_name(folder, "_mask.png")
    for split in _SPLITS:
        plan.add(
            split,
            read_split("deepglobe", split),
            images,
            labels,
            image_target=f"img_dir/{split}/{{name}}_sat.jpg",
            label_target=f"rgb2id/{split}/{{name}}_mask.png",
            write_label=_write_deepglobe,
        )
    return plan


def plan_inria_aerial(source: Path) -> Plan:
    """Plan Inria's labelled part: `images/*.tif` and `gt/*.tif`, split by FCtL's lists."""
    plan = Plan()
    folder = next(
        (path for path in (source / "AerialImageDataset" / "train", source / "train") if path.is_dir()), source
    )
    images, labels = files_by_name(folder / "images", ".tif"), files_by_name(folder / "gt", ".tif")
    for split in _SPLITS:
        plan.add(
            split,
            read_split("inria_aerial", split),
            images,
            labels,
            image_target=f"imgs/{split}/{{name}}_sat.tif",
            label_target=f"labels/{split}/{{name}}_mask.png",
            write_label=_write_inria_aerial,
        )
    return plan


def _write_camvid(source: Path, target: Path) -> None:
    write_labels(target, read_indices(source, CAMVID_RAW), CAMVID.raw_palette)


def _write_camvid_original(source: Path, target: Path) -> None:
    write_labels(target, read_indices(source, CAMVID_ORIGINAL), CAMVID_ORIGINAL.raw_palette)


def _write_coco_stuff_10k(source: Path, target: Path) -> None:
    indices = read_matlab_mask(source, COCO_STUFF_10K_RAW)
    write_labels(target, COCO_STUFF_10K.to_raw(indices), COCO_STUFF_10K.raw_palette)


def _write_coco_stuff_164k(source: Path, target: Path) -> None:
    # Class indices, not the values of the source; some readers require a colour for 255 too.
    black = ((0, 0, 0),) * (256 - COCO_STUFF_164K.num_classes)
    write_labels(target, read_indices(source, COCO_STUFF_164K), COCO_STUFF_164K.palette + black)


def _write_deepglobe(source: Path, target: Path) -> None:
    write_labels(target, read_corner_mask(source, DEEPGLOBE), DEEPGLOBE.raw_palette)


def _write_inria_aerial(source: Path, target: Path) -> None:
    write_labels(target, read_indices(source, INRIA_AERIAL_RAW), INRIA_AERIAL.raw_palette)


PREPARATIONS: dict[str, tuple[Callable[[Path], Plan], str]] = {
    "camvid": (plan_camvid, "train/*.png and trainannot/*.png, and the same for val and test"),
    "camvid_original": (
        plan_camvid_original,
        "701_StillsRaw_full/*.png and LabeledApproved_full/*_L.png, or images/<split>/*.png and "
        "annotations/<split>/*_L.png",
    ),
    "coco_stuff_10k": (plan_coco_stuff_10k, "images/*.jpg, annotations/*.mat and imageLists/{train,test}.txt"),
    "coco_stuff_164k": (plan_coco_stuff_164k, "images/{train,val}2017/*.jpg and annotations/{train,val}2017/*.png"),
    "deepglobe": (plan_deepglobe, "<id>_sat.jpg and <id>_mask.png, there or in land-train/ or train/"),
    "inria_aerial": (plan_inria_aerial, "images/*.tif and gt/*.tif, there or in train/ or AerialImageDataset/train/"),
}
"""For each data set, the function that plans a source folder, and the files that the folder must hold."""
