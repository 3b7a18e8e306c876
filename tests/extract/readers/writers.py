"""Write the same samples to every container, with the container's own library if there is one."""

import csv
import io
import json
import tarfile
from dataclasses import dataclass, field

import pyarrow as pa
from pyarrow import parquet


@dataclass(frozen=True)
class Sample:
    name: str  # of the image file: the id
    content: bytes
    captions: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def _images(folder, samples):
    for sample in samples:
        (folder / sample.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / sample.name).write_bytes(sample.content)
    return folder


def _width(samples):
    return max([1, *(len(sample.captions) for sample in samples)])


def _padded(sample, width):
    return [*sample.captions, *[""] * (width - len(sample.captions))]


def csv_folder(root, splits):
    for split, samples in splits.items():
        _images(root / "data", samples)
        width = _width(samples)
        captions = ["Caption", *(f"Caption{number}" for number in range(2, width + 1))]
        with (root / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["ImageID", "Labels", *captions])
            for sample in samples:
                writer.writerow([sample.name, "|".join(sample.labels), *_padded(sample, width)])
    return root


def coco(root, splits):
    (root / "annotations").mkdir(parents=True)
    for split, samples in splits.items():
        _images(root / split, samples)
        names = sorted({label for sample in samples for label in sample.labels})
        images = [{"id": 1000 + n, "file_name": sample.name} for n, sample in enumerate(samples)]
        boxes = [
            {
                "id": n,
                "image_id": 1000 + row,
                "category_id": 3 * names.index(label) + 1,
                "iscrowd": n % 2,
                "segmentation": {"counts": [1, 2], "size": [3, 4]} if n % 2 else [[0.5, 1.0]],
            }
            for n, (row, label) in enumerate(
                (r, name) for r, s in enumerate(samples) for name in s.labels * 2
            )
        ]
        texts = [
            {"id": n, "image_id": 1000 + row, "caption": text}
            for n, (row, text) in enumerate((r, text) for r, s in enumerate(samples) for text in s.captions)
        ]
        categories = [{"id": 3 * n + 1, "name": name} for n, name in enumerate(names)]
        info = {"info": {"description": "x"}, "licenses": [{"id": 1, "name": "y"}], "images": images}
        for kind, more in (
            ("instances", {"annotations": boxes, "categories": categories}),
            ("captions", {"annotations": texts}),
        ):
            (root / "annotations" / f"{kind}_{split}.json").write_text(json.dumps(info | more))
    return root


def tsv(root, splits):
    for split, samples in splits.items():
        _images(root / "images", samples)
        width = _width(samples)
        with (root / f"{split}.tsv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(["filepath", "tags", *(f"text_{number}" for number in range(width))])
            for sample in samples:
                writer.writerow([sample.name, ";".join(sample.labels), *_padded(sample, width)])
    return root


def json_lines(root, splits):
    for split, samples in splits.items():
        _images(root, samples)
        rows = [{"file_name": s.name, "captions": s.captions, "labels": s.labels} for s in samples]
        (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def parquet_paths(root, splits):
    """Two files per split, with absolute paths of the images in the folder."""
    for split, samples in splits.items():
        images = _images(root / f"{split}-images", samples)
        half = len(samples) // 2
        for number, part in enumerate((samples[:half], samples[half:])):
            table = pa.table(
                {
                    "image_id": [s.name for s in part],
                    "path": [str(images.resolve() / s.name) for s in part],
                    "sentences": pa.array([s.captions for s in part], pa.list_(pa.string())),
                    "labels": pa.array([s.labels for s in part], pa.list_(pa.string())),
                }
            )
            parquet.write_table(table, root / f"{split}-0000{number}-of-00002.parquet")
    return root


def parquet_bytes(root, splits):
    """With the images' bytes, three rows per row group."""
    root.mkdir()
    for split, samples in splits.items():
        table = pa.table(
            {
                "key": [s.name for s in samples],
                "image": [s.content for s in samples],
                "caption": pa.array([s.captions for s in samples], pa.list_(pa.string())),
                "label": ["|".join(s.labels) for s in samples],
            }
        )
        parquet.write_table(table, root / f"{split}.parquet", row_group_size=3)
    return root


def web_dataset(root, splits):
    """Two shards per split, as the webdataset library writes them; several captions are in the JSON."""
    from webdataset import TarWriter

    root.mkdir()
    for split, samples in splits.items():
        half = len(samples) // 2
        for number, part in enumerate((samples[:half], samples[half:])):
            with TarWriter(str(root / f"{split}-{number:06}.tar")) as writer:
                for sample in part:
                    key, _, suffix = sample.name.partition(".")
                    record = {"labels": sample.labels} | (
                        {"captions": sample.captions} if len(sample.captions) > 1 else {}
                    )
                    texts = {"txt": sample.captions[0]} if sample.captions else {}
                    writer.write({"__key__": key, suffix: sample.content, "json": record, **texts})
    return root


def plain_tar(root, splits):
    """One archive per split, as `tar -cf` writes it."""
    root.mkdir()
    for split, samples in splits.items():
        with tarfile.open(root / f"{split}.tar", "w") as archive:
            for sample in samples:
                record = json.dumps({"captions": sample.captions, "label": "|".join(sample.labels)}).encode()
                for name, content in (
                    (sample.name, sample.content),
                    (sample.name.partition(".")[0] + ".json", record),
                ):
                    member = tarfile.TarInfo(f"./{name}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return root


def hugging_face(root, splits):
    """As the datasets library saves it: with the images' bytes, labels as a list of ClassLabel."""
    import datasets

    names = sorted({label for samples in splits.values() for sample in samples for label in sample.labels})
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "captions": datasets.Sequence(datasets.Value("string")),
            "labels": datasets.Sequence(datasets.ClassLabel(names=names)),
        }
    )
    by_split = {
        split: datasets.Dataset.from_dict(
            {
                "image": [{"bytes": s.content, "path": s.name} for s in samples],
                "captions": [s.captions for s in samples],
                "labels": [s.labels for s in samples],
            },
            features=features,
        )
        for split, samples in splits.items()
    }
    datasets.disable_progress_bars()
    datasets.DatasetDict(by_split).save_to_disk(str(root), num_shards=dict.fromkeys(splits, 2))
    return root


def captioned_images(root, samples):
    _images(root, samples)
    for sample in samples:
        if sample.captions:
            lines = "".join(f"{text}\n" for text in sample.captions)
            (root / sample.name).with_suffix(".txt").write_text(lines, newline="")
    return root


WRITERS = {
    writer.__name__: writer
    for writer in (
        coco,
        tsv,
        json_lines,
        parquet_paths,
        parquet_bytes,
        web_dataset,
        plain_tar,
        hugging_face,
    )
}
__all__ = ["WRITERS", "Sample", "captioned_images", "csv_folder"]
