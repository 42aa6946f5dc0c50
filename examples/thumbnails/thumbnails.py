"""Makes thumbnails of all images in a folder, in processes that cannot hurt each other.

herd worker --app thumbnails                  (in this folder, as often as you like)
python -m thumbnails ~/Pictures ~/Thumbnails  (in this folder)

An image may be broken, or a bomb that unpacks to gigabytes: each runs in a separate process with limits on time and
memory, and one that fails is reported at the end and harms no other.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from herdmaster import Herd, HerdError

herd = Herd()  # $HERD_ZOOKEEPER, else 127.0.0.1:2181

SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"}


@herd.task(
    pool="process",
    timeout=30,
    memory_limit="1GB",
    max_attempts=3,  # a network drive may fail for a moment
    retry_on=[OSError],
    give_up_on=[UnidentifiedImageError],
)
def make_thumbnail(source: Path, target: Path, size: int) -> tuple[int, int]:
    """The size of the thumbnail. It is written under another name first: a task may run twice, a file is whole."""
    with Image.open(source) as image:
        image.thumbnail((size, size))
        part = target.with_suffix(".part")
        image.convert("RGB").save(part, "JPEG")
        part.replace(target)
        return image.size


def thumbnail_path(source: Path, folder: Path) -> Path:
    """One name for one source, whatever folder it came from."""
    return folder / f"{source.stem}-{hashlib.sha256(str(source).encode()).hexdigest()[:8]}.jpg"


def main() -> None:
    source, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    target.mkdir(parents=True, exist_ok=True)
    images = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    failed = 0
    with herd:
        futures = [make_thumbnail.submit(image, thumbnail_path(image, target), 128) for image in images]
        for image, future in zip(images, futures, strict=True):
            try:
                future.result()
            except (HerdError, OSError) as error:
                failed += 1
                print(f"{image}: {error}", file=sys.stderr)
    print(f"{len(images) - failed} thumbnails in {target}, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
