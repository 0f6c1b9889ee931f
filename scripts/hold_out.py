r"""Hold more of a data set out of training than its split does: the images whose names end in one of some characters.

    python scripts/hold_out.py data/ecssd data/ecssd_held_out --endings 5

The new folder has hard links to the files of images/{train,val} and masks/{train,val}, or copies where the two folders
lie on different disks; what is held out joins val.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path


def link(source: Path, target: Path) -> None:
    """Put a file into another folder, by a hard link where that can be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy(source, target)


def main() -> None:
    """Divide the files anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the data set's folder")
    parser.add_argument("target", type=Path, help="the folder to write")
    parser.add_argument("--endings", required=True, help="the characters; 5 holds 0005, 0015 and so on out")
    arguments = parser.parse_args()
    counts = {"train": 0, "val": 0}
    for kind in ("images", "masks"):
        for split in counts:
            for file in sorted((arguments.source / kind / split).iterdir()):
                chosen = "val" if file.stem[-1] in arguments.endings else split
                link(file, arguments.target / kind / chosen / file.name)
                counts[chosen] += kind == "images"
    print(f"{counts['train']} images to train on, {counts['val']} held out, in {arguments.target}")


if __name__ == "__main__":
    main()
