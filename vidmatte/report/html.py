"""Render the templates of pages: of a report, a batch and an evaluation."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> str:
    """Return a page (or a part of one) made from a file in the folder `templates`.

    Values are escaped, unless they are `markupsafe.Markup`. `page.html` is what every page extends:
    one style sheet, and nothing that asks another host for anything.

    Args:
        template: Name of the file.
        values: What the template names. A name that is missing raises jinja2.UndefinedError.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    # Loaded here, as most commands write no page.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vidmatte.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda data: b64encode(data).decode()
    return environment
