"""Render the templates of pages: of a report, a batch and an evaluation."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, *, templates: Path | None = None, **values: object) -> str:
    """Return a page (or a part of one) made from a file in the folder `templates`.

    Values are escaped, unless they are `markupsafe.Markup`. Every page extends `page.html`:
    one style sheet, and no requests to other hosts.

    Args:
        template: Name of the file.
        templates: Another folder, with precedence over this package.
        values: Values for the template's names. A missing one raises jinja2.UndefinedError.
    """
    return _environment(templates).get_template(template).render(**values)


@cache
def _environment(templates: Path | None) -> Environment:
    # Loaded here, as most commands write no page.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # The first folder that has the file gives it.
    folders = [_TEMPLATES] if templates is None else [templates, _TEMPLATES]
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Pictures are embedded, so that the page is one file.
    environment.filters["base64"] = lambda data: b64encode(data).decode()
    return environment
