"""Render self-contained pages. What they hold of other people's data is text.

The templates escape it, scripts set it as text only, and the page's content security policy allows no script
but its own.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from encode_once.cache.format.atomic import replacing

BASE = files(__package__) / "base"
TEMPLATE, STYLE = "page.html.jinja", "page.css"


def render(folder: Traversable, scripts: Sequence[str], **values: Any) -> str:
    """The page of a folder with `page.html.jinja`, which extends `base.html.jinja`, and `page.css`.

    Args:
        scripts: names of the folder's scripts, in the order of their use; those of BASE precede them.
        values: for the template; `title` and `notes` are those of the page.
    """
    from jinja2 import Environment, FunctionLoader

    templates = {TEMPLATE: folder, "base.html.jinja": BASE}
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: _read(templates[name], name)),
    )
    style = _read(BASE, "base.css") + _read(folder, STYLE)
    script = "".join([_read(BASE, "element.js"), *(_read(folder, name) for name in scripts)])
    return environment.get_template(TEMPLATE).render(
        version=f"encode-once {version('encode-once')}",
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        **values,
    )


def write(page: str, path: Path) -> None:
    """Write a page, completely or not at all; bytes of names that are not UTF-8 become question marks."""
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def script_json(content: Any) -> str:
    """JSON that cannot end the script element it stands in. NaN and infinity, which JSON lacks, are null."""
    return json.dumps(_finite(content), separators=(",", ":")).replace("<", "\\u003c")


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content


def _read(folder: Traversable, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A source of a content security policy that allows this text and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
