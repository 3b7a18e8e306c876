"""Takes docs/report.png, the picture of a report page in README.md, of the demo's page.

python cli.py demo
python docs/screenshot.py demo/report.html
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).with_name("report.png")
WIDTH, CLASSES, GALLERY = 1180, 830, 400  # pixels: of the page, and of the two parts that are shown
COLOURS = 96


def main() -> None:
    """Take the thresholds and the gallery of the best run, one above the other."""
    page = Path(sys.argv[1]).resolve()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": WIDTH, "height": 1000})
        shown.goto(page.as_uri())
        shown.wait_for_selector("html[data-ready=yes]")
        picture = Image.new("RGB", (WIDTH, CLASSES + GALLERY), "white")
        for section, height, top in ((".thresholds", CLASSES, 0), (".gallery", GALLERY, CLASSES)):
            shown.evaluate("name => document.querySelector(`article ${name}`).scrollIntoView()", section)
            shown.wait_for_timeout(300)
            part = Image.open(io.BytesIO(shown.screenshot()))
            picture.paste(part.crop((0, 0, WIDTH, height)), (0, top))
        browser.close()
    picture.resize((WIDTH * 3 // 4, (CLASSES + GALLERY) * 3 // 4)).quantize(COLOURS).save(
        PICTURE, optimize=True
    )


if __name__ == "__main__":
    main()
