"""Checks of the built site that MkDocs does not make itself."""

from __future__ import annotations

import html
import re
from typing import Any

from mkdocs.exceptions import PluginError

_LOADED = re.compile(
    r'<(?:script|link|img|iframe|source|video)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]+)"'
)


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    r"""Write bars in code of tables as entities: GitHub needs `\|`, but MkDocs shows it as is."""

    def without_bars(match: re.Match[str]) -> str:
        return "<code>" + html.escape(match[1]).replace("\\|", "&#124;") + "</code>"

    rows = markdown.split("\n")
    return "\n".join(
        re.sub(r"`([^`]*\\\|[^`]*)`", without_bars, row) if row.startswith("|") else row
        for row in rows
    )


def on_post_page(output: str, *, page: Any, config: Any) -> str:
    """Refuse a page that loads anything from another host: the site works without a network."""
    if found := _LOADED.search(output):
        raise PluginError(
            f"{page.file.src_path}: the page loads {found[1]}; put the file into docs/ instead"
        )
    return output
