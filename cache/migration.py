"""Bring the files of a store to the versions that this program writes."""

from encode_once.cache.format.header import read_stamp
from encode_once.cache.store import Store
from encode_once.cache.table import KIND, SINCE, WITH_HEADER, load_table, save_table


def migrate_store(store: Store) -> list[str]:
    """Rewrite the tables of earlier versions; one line for each, and one if there is nothing to do.

    Each table is replaced at once, or stays as it is. Parts and the store itself have had one version since
    they have had checksums.

    Raises:
        StoreError: the store is read-only, or a table cannot be read.
        DamagedError: a table is damaged.
    """
    store.check_writable()
    lines = []
    for path in store.table_files():
        version = read_stamp(path, KIND, SINCE)["version"]
        if version >= WITH_HEADER:  # later versions are written for tables that need them
            continue
        table = load_table(path)
        if store.is_outdated(table):
            lines.append(
                f"{table.source}: kept at version {version}, as it has changed since: extract reads it again"
            )
            continue
        sources = store.sources(table)
        save_table(table, path, sources)
        lines.append(f"{table.source}: version {version} is now version {WITH_HEADER}")
        unread = {table.source, *table.more_sources} - {source.path for source in sources}
        if unread:
            lines.append(
                f"{table.source}: {len(unread)} of the files that it was read from are gone; if they "
                "reappear with other content, the table is not reported as outdated"
            )
    current = f"{store.location} is current: all its files are of the versions that this program writes"
    return lines or [current]
