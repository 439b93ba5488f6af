"""`vidmatte hosts`: install the plug-ins of host programs."""

from __future__ import annotations

from pathlib import Path

import click

from vidmatte.cli.console import one_line_errors, print_result
from vidmatte.errors import OptionError
from vidmatte.process import loading


@click.command("hosts")
@click.argument("host", type=click.Choice(("nuke", "blender")), required=False)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where to copy it.  [default: the folder of plug-ins of the program]",
)
def hosts_command(host: str | None, folder: Path | None) -> None:
    """Copy the plug-in for Nuke or Blender to where the program finds it.

    Without a name, say what there is and where it would go. A newer version replaces an older one.
    """
    with one_line_errors():
        with loading():
            from vidmatte.hosts.install import PLUGINS, install_plugin

        if host is not None:
            path = install_plugin(host, folder)
            print_result(f"{path}: {PLUGINS[host].then}")
            return
        if folder is not None:
            raise OptionError(f"--to was given without a host: write {' or '.join(PLUGINS)}")
        for name, plugin in PLUGINS.items():
            place = plugin.folder()
            where = "no settings of it found: use --to" if place is None else place / plugin.name
            print_result(f"{name:8s} {plugin.program}: {where}")
