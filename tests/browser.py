"""Debian's Chromium for tests of pages: installed by `make browser`, skipped where it is absent."""

import os
import shutil
from contextlib import contextmanager

import pytest

from encode_once.classify.bench.report import SWITCHES


def chromium():
    """The path of Chromium; without it the test is skipped, or fails where it is required."""
    path = shutil.which("chromium")
    if path is None:
        (pytest.fail if os.environ.get("BROWSER") == "required" else pytest.skip)(
            "there is no chromium: make browser installs it"
        )
    return path


@contextmanager
def browsing():
    """A browser without network."""
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*SWITCHES])
        yield browser
        browser.close()


@contextmanager
def opened(browser, path, **options):
    """A page of a file; errors on its console fail the test."""
    context = browser.new_context(offline=True, **options)
    page = context.new_page()
    errors = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
    page.goto(f"file://{path}")
    page.wait_for_selector("html[data-ready=yes]")
    yield page
    context.close()
    assert errors == []
