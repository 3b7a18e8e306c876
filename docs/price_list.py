"""Writes a made-up price list: a spreadsheet of products with pictures, prices and brands.

    python docs/price_list.py FOLDER [ROWS]

The pictures are the demo's, and so are the labels of what they show. Two labels more do not depend on the
picture: `premium`, the likelier the higher the price, and `organic`, for most products of two of five brands
and few of the others. So what the columns are worth here is made, too; on real data it may be nothing.
"""

import sys
from pathlib import Path

import numpy as np
from openpyxl import Workbook

from encode_once.extract.demo.scenes import compose

BRANDS = {"Alder": 0.05, "Birch": 0.9, "Cedar": 0.1, "Dogwood": 0.85, "Elm": 0.05}  # shares that are organic
USUAL_PRICE = 40.0  # half of the products cost more; half of those of this price are premium


def write_price_list(folder: Path, rows: int, seed: int = 0) -> None:
    """Write `products.xlsx` with the columns image, price, brand and labels, and the pictures in `data/`."""
    compose(folder, rows, seed, eval_rows=rows // 5)
    rng = np.random.default_rng(seed)
    scenes = (folder / "train.csv").read_text(encoding="utf-8").splitlines()[1:]
    (folder / "train.csv").unlink()
    book = Workbook(write_only=True)
    sheet = book.create_sheet("products")
    sheet.append(["image", "price", "brand", "labels"])
    for scene in scenes:
        image, labels, _ = scene.split(",", 2)
        price, brand = rng.lognormal(np.log(USUAL_PRICE), 0.6), str(rng.choice([*BRANDS]))
        premium = rng.random() < 1 / (1 + (USUAL_PRICE / price) ** 6)
        organic = rng.random() < BRANDS[brand]
        labels += ";premium" * premium + ";organic" * organic
        sheet.append([image, round(price, 2), brand, labels])
    book.save(folder / "products.xlsx")


if __name__ == "__main__":
    write_price_list(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
