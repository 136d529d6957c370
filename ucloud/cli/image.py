"""ucloud image …: one function per verb."""

import shlex
from pathlib import Path
from typing import Any

import click

from ucloud.base.errors import Error, Invalid, NotFound
from ucloud.cli import progress
from ucloud.cli.names import Reference
from ucloud.cli.noun import Noun
from ucloud.cli.options import SETTINGS, Setting, change_options, connect, filter_options, output_option, wait_options
from ucloud.cli.output import bytes_size, show_list, show_one, size
from ucloud.cli.progress import Failed, Interrupted
from ucloud.cli.transfer import telling_bytes
from ucloud.client import Client, Json, UploadBroken
from ucloud.client.local_file import LocalFile

BROKEN_OFF_S = 60  # for so long no upload is silent that goes on
COLUMNS = {
    "NAME": lambda image: image["name"],
    "PHASE": lambda image: _phase(image),
    "FORMAT": lambda image: image["format"] or "-",
    "BYTES": lambda image: bytes_size(image["bytes"]),
    "DISK": lambda image: size(image["virtual_size_mib"]) if image["virtual_size_mib"] else "-",
    "POOL": lambda image: image["pool"],
    "ID": lambda image: image["id"],
}


def _phase(image: Json) -> str:
    """With how far it is."""
    if image["phase"] == "uploading":
        percent = image["received_bytes"] * 100 // image["bytes"]
        return f"uploading {percent} %" + (", broken off" if _is_broken_off(image) else "")
    return str(image["phase"]) + (", waiting" if image["phase"] == "examining" and image["error"] else "")


def _is_broken_off(image: Json) -> bool:
    return image["phase"] == "uploading" and image["idle_s"] is not None and image["idle_s"] > BROKEN_OFF_S


@click.group(cls=Noun)
def image() -> None:
    """Images: what the disks of VMs are cloned from."""


def _uploadable(context: click.Context, param: click.Parameter, file: Path) -> Path:
    try:
        with LocalFile(file):
            return file
    except Invalid as error:
        raise click.BadParameter(error.message) from None


@image.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path), callback=_uploadable)
@click.option("--pool", type=Reference("pool"), help="Where to keep it.  [default: the only pool there is]")
@click.option("--user", help="As whom one logs in to its guests.  [default: root]")
@wait_options
@output_option
@click.pass_context
def upload(
    context: click.Context,
    name: str,
    file: Path,
    pool: str | None,
    user: str | None,
    no_wait: bool,
    timeout_s: float,
    output: str,
) -> None:
    """Upload a disk image (qcow2 or raw), which is examined before it can be used.

    An upload that broke off is gone on with by the same command, for a day. Ctrl-C removes what has arrived.

    \b
    Example:
      ucloud image upload debian debian-12.qcow2 --user debian
    """
    client = connect(context)
    try:
        with telling_bytes(name) as tell:
            made, action = client.upload_image(name, file, pool, tell, user)
    except UploadBroken as error:
        again = shlex.join(
            [
                "ucloud",
                "image",
                "upload",
                name,
                str(file),
                *(["--pool", pool] if pool else []),
                *(["--user", user] if user else []),
            ]
        )
        raise UploadBroken(f"{error.message}; go on with: {again}", error.retry_s, error.details) from None
    except KeyboardInterrupt:
        raise Interrupted(f"{name}: interrupted; {_left_of(client, name)}") from None
    if not no_wait:
        try:
            progress.wait(client, [(name, action)], timeout_s, look=f"ucloud image show {name}")
        except Failed as error:
            raise Failed(f"{error.message}; remove it with: ucloud image delete {name}") from None
    _show_made(client.image(made["id"]), "was there already, and " if made["uploaded_at"] else "", output)


def _left_of(client: Client, name: str) -> str:
    """What is there of an upload that was interrupted, and whose image the SDK has removed if it could."""
    try:
        is_there = client.image(name)["phase"] == "uploading"
    except NotFound:
        is_there = False
    except (Error, KeyboardInterrupt):
        is_there = True
    return f"remove what has arrived with: ucloud image delete {name}" if is_there else "nothing is left of it"


def _show_made(made: Json, before: str, output: str) -> None:
    if output != "table":
        show_one(made, output)
        return
    name, is_ready = made["name"], made["phase"] == "ready"
    click.echo(f"{name} {before}is {made['phase']}: {made['id']}")
    click.echo(f"Next: ucloud {f'vm create NAME --image {name}' if is_ready else f'image show {name}'}")


@image.command()
@click.argument("source", type=Reference("image"))
@click.argument("name")
@wait_options
@output_option
@click.pass_context
def clone(context: click.Context, source: str, name: str, no_wait: bool, timeout_s: float, output: str) -> None:
    """Make a copy of an image under another name. It takes no room, and stays when its source is deleted.

    \b
    Example:
      ucloud image clone debian debian-golden
    """
    client = connect(context)
    made, action = client.clone_image(source, name)
    if not no_wait:
        progress.wait(client, [(name, action)], timeout_s, look=f"ucloud image show {name}")
    _show_made(client.image(made["id"]), "", output)


@image.command("list")
@filter_options
@output_option
@click.pass_context
def list_(context: click.Context, name: str | None, label: str | None, output: str) -> None:
    """List the images, oldest first.

    \b
    Example:
      ucloud image list -o json
    """
    show_list(list(connect(context).images(name, label)), COLUMNS, output)


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
    found = connect(context).image(image)
    show_one(found, output)
    if _is_broken_off(found):
        click.echo(f"Its upload broke off. Go on with: ucloud image upload {found['name']} FILE", err=True)


@image.command("set")
@click.argument("image", type=Reference("image"))
@click.argument("settings", metavar="[KEY=VALUE]...", nargs=-1, type=Setting(SETTINGS))
@change_options
@click.option("--user", help="As whom one logs in to its guests.")
@output_option
@click.pass_context
def set_(
    context: click.Context,
    image: str,
    settings: tuple[tuple[str, Any], ...],
    name: str | None,
    labels: tuple[tuple[str, str | None], ...],
    user: str | None,
    output: str,
) -> None:
    """Change an image's name, labels, user or settings; what is not named stays.

    The settings: delete_protection=true refuses to delete it, until that is false again.

    \b
    Example:
      ucloud image set debian --name debian-12 delete_protection=true
    """
    if not settings and name is None and user is None and not labels:
        raise click.UsageError("say what to change: --name, --label, --user, or KEY=VALUE")
    changed = connect(context).set_image(image, name, dict(labels) if labels else None, user=user, **dict(settings))
    show_one(changed, output)


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
