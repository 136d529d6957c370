"""ucloud image …: one function per verb."""

from pathlib import Path

import click

from ucloud.cli import progress
from ucloud.cli.names import Reference
from ucloud.cli.noun import Noun
from ucloud.cli.options import connect, output_option, wait_options
from ucloud.cli.output import bytes_size, show_list, show_one, size
from ucloud.cli.progress import Failed

COLUMNS = {
    "NAME": lambda image: image["name"],
    "PHASE": lambda image: image["phase"],
    "FORMAT": lambda image: image["format"] or "-",
    "BYTES": lambda image: bytes_size(image["bytes"]),
    "DISK": lambda image: size(image["virtual_size_mib"]) if image["virtual_size_mib"] else "-",
    "POOL": lambda image: image["pool"],
    "ID": lambda image: image["id"],
}


@click.group(cls=Noun)
def image() -> None:
    """Images: what the disks of VMs are cloned from."""


def _full_file(context: click.Context, param: click.Parameter, file: Path) -> Path:
    """A pipe or a device has no size that could be announced."""
    if not file.is_file():
        raise click.BadParameter(f"{str(file)!r} is not a regular file")
    if not file.stat().st_size:
        raise click.BadParameter(f"{str(file)!r} is empty")
    return file


@image.command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), callback=_full_file)
@click.option("--pool", type=Reference("pool"), help="Where to keep it.  [default: the only pool there is]")
@wait_options
@output_option
@click.pass_context
def upload(
    context: click.Context, name: str, file: Path, pool: str | None, no_wait: bool, timeout_s: float, output: str
) -> None:
    """Upload a disk image (qcow2 or raw), which is examined before it can be used.

    \b
    Example:
      ucloud image upload debian debian-12.qcow2
    """
    client = connect(context)
    with progress.telling_bytes(name) as tell:
        made, action = client.upload_image(name, file, pool, tell)
    if not no_wait:
        try:
            progress.wait(client, [(name, action)], timeout_s, look=f"ucloud image show {name}")
        except Failed as error:
            raise Failed(f"{error.message}; remove it with: ucloud image delete {name}") from None
    made = client.image(made["id"])
    if output != "table":
        show_one(made, output)
        return
    click.echo(f"{name} is {made['phase']}: {made['id']}")
    click.echo(f"Next: ucloud {f'image show {name}' if no_wait else f'vm create NAME --image {name}'}")


@image.command("list")
@output_option
@click.pass_context
def list_(context: click.Context, output: str) -> None:
    """List the images, oldest first.

    \b
    Example:
      ucloud image list -o json
    """
    show_list(list(connect(context).images()), COLUMNS, output)


@image.command()
@click.argument("image", type=Reference("image"))
@output_option
@click.pass_context
def show(context: click.Context, image: str, output: str) -> None:
    """Show all about an image.

    \b
    Example:
      ucloud image show debian
    """
    show_one(connect(context).image(image), output)


@image.command()
@click.argument("image", type=Reference("image"))
@wait_options
@output_option
@click.pass_context
def delete(context: click.Context, image: str, no_wait: bool, timeout_s: float, output: str) -> None:
    """Delete an image that no VM uses.

    \b
    Example:
      ucloud image delete debian
    """
    client = connect(context)
    found = client.image(image)
    action = client.delete_image(found["id"])
    if not no_wait:
        progress.wait(client, [(image, action)], timeout_s, look="ucloud image list")
    if output != "table":
        show_one(found, output)
    else:
        click.echo(f"{found['name']} is {'being deleted' if no_wait else 'deleted'}")
