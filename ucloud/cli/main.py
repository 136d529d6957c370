"""The program `ucloud`: groups the nouns, and turns every error into a message and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong usage. `ucloud.daemon.main` adds the commands that run a cloud (up, down, status).
"""

import click

from ucloud import __version__
from ucloud.base.errors import Error
from ucloud.cli import fault, host, image, vm
from ucloud.client import ConfigError


class Program(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Error as error:
            fault.tell(error, ctx)
            ctx.exit(2 if isinstance(error, ConfigError) else 1)
        except BrokenPipeError:
            raise  # click ends quietly
        except OSError as error:  # a full disk, a file that cannot be read
            click.echo(f"Error: {error}", err=True)
            ctx.exit(1)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ucloud")
@click.option(
    "--api",
    metavar="ADDRESS",
    help="Where the API is: unix:/PATH or http://HOST:PORT; several with commas.  [default: UCLOUD_API,"
    " ~/.config/ucloud/client.toml, or this machine]",
)
@click.pass_context
def main(context: click.Context, api: str | None) -> None:
    """Virtual machines on your own cloud.

    Results go to stdout, progress and errors to stderr. Names and ids can be used alike.

    \b
    Example:
      ucloud image upload debian debian-12.qcow2
      ucloud vm create web --image debian --memory 1G
      ucloud vm list
    """
    context.obj = api


main.add_command(vm.vm)
main.add_command(image.image)
main.add_command(host.host)
