"""Options that the commands of a run in use share: how other data are encoded for it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from encode_once.cache.options import device_option, grouped, say, warn
from encode_once.extract.options import (
    INPUT_OPTIONS,
    read_options,
    trust_option,
    weights_by_encoder,
    weights_option,
)

if TYPE_CHECKING:
    from encode_once.deploy.encoding import Encoding


def _encoding(
    store: str | None, device: str, weights: Sequence[str], trust: bool, **options: Any
) -> "Encoding":
    from encode_once.deploy.encoding import Encoding

    def by_encoder(encoders: Sequence[str]) -> dict[str, str]:
        return weights_by_encoder(encoders, weights)

    return Encoding(store, device, by_encoder, trust, say, warn, read_options(**options))


other_store_option = click.option(
    "--store", help="Store to read and extend. [default: the run's store, read only, and RUN/store]"
)
OF_DATA = (other_store_option, device_option, weights_option, trust_option, *INPUT_OPTIONS)
encoding_options = grouped(
    "encoding",
    _encoding,
    other_store_option,
    weights_option,
    trust_option,
    device_option,
    *INPUT_OPTIONS,
)


measured_table_option = click.option(
    "--table", default="auto", show_default=True, metavar="SPLIT",
    help="train, test, val …; auto: train if it has labels, else another.",
)  # fmt: skip

new_table_option = click.option(
    "--table", "split", default="auto", show_default=True, metavar="SPLIT",
    help="train, test, val …; auto: test if there is one, else train.",
)  # fmt: skip
