"""What img2dataset writes: shards `00000`, each a folder or a .tar of images, with texts and statistics."""

import re
from pathlib import Path

from encode_once.extract.readers import webdataset
from encode_once.extract.readers.captioned_folder import table_of
from encode_once.extract.readers.folders import Folder
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import RawTable

ABOUT = "what img2dataset writes: 00000/ or 00000.tar …, with 00000_stats.json"
STATISTICS = re.compile(r"(\d+)_stats\.json")


def recognises(data: Path, options: ParsedOptions) -> bool:
    """Whether there are statistics of shards."""
    return data.is_dir() and bool(_shards(data))


def has_precedence(data: Path, options: ParsedOptions) -> bool:
    """Its .parquet files and archives are no data of other layouts."""
    return recognises(data, options)


def _shards(data: Path) -> list[str]:
    listing = Folder.listed(data)
    matches = (STATISTICS.fullmatch(name) for name in sorted(listing.files))
    shards = [match[1] for match in matches if match]
    return [shard for shard in shards if shard in listing.folders or f"{shard}.tar" in listing.files]


def read(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table "train" of all shards. Images that were not downloaded have no row.

    Raises:
        DataError: a shard is damaged.
    """
    shards = _shards(data)
    if all((data / f"{shard}.tar").is_file() for shard in shards):
        tables = webdataset.read(data, options)
    else:
        tables = [table_of([data / shard for shard in shards], data, options)]
    tables[0].also_read += [data / f"{shard}{end}" for shard in shards for end in ("_stats.json", ".parquet")]
    return tables
