"""Where the API is: `UCLOUD_API`, else `~/.config/ucloud/client.toml` (written by `ucloud up`), else the usual places.

api = ["unix:/run/ucloud/api.sock", "http://[::1]:8642"]
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import httpx

from ucloud.base.errors import Invalid

DEFAULT_ADDRESSES = ("unix:/run/ucloud/api.sock", "http://[::1]:8642")
KNOWN = {"api"}


class ConfigError(Invalid):
    """The file or the variable makes no sense."""


def addresses(environment: Mapping[str, str], option: str | None = None) -> list[str]:
    """The addresses to try, in turn; `option` goes before all. There and in `UCLOUD_API`, several are separated by commas.
    Raises ConfigError."""
    for text, origin in ((option, "--api"), (environment.get("UCLOUD_API"), "UCLOUD_API")):
        if text:
            return checked([part.strip() for part in text.split(",")], origin)
    path = config_path(environment)
    if path is None:
        return list(DEFAULT_ADDRESSES)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return list(DEFAULT_ADDRESSES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if unknown := sorted(set(content) - KNOWN):
        raise ConfigError(f"{path}: there is no setting {unknown[0]!r}")
    api = content.get("api", list(DEFAULT_ADDRESSES))
    if not isinstance(api, list) or not api or not all(isinstance(address, str) for address in api):
        raise ConfigError(f'{path}: api must be a list of addresses: api = ["{DEFAULT_ADDRESSES[0]}"]')
    return checked(api, str(path))


def config_path(environment: Mapping[str, str]) -> Path | None:
    """None for somebody who has no home."""
    if base := environment.get("XDG_CONFIG_HOME"):
        return Path(base) / "ucloud" / "client.toml"
    try:
        home = Path(environment.get("HOME") or Path.home())
    except RuntimeError:  # nor does the machine know of him
        return None
    return home / ".config" / "ucloud" / "client.toml"


def checked(api: list[str], origin: str) -> list[str]:
    for address in api:
        if not is_address(address):
            raise ConfigError(f"{origin}: {address!r} is no address; give unix:/PATH, http://HOST:PORT or https://HOST:PORT")
    return api


def is_address(text: str) -> bool:
    if text.startswith("unix:"):
        return text.startswith("unix:/") and text.isprintable()
    try:
        url = httpx.URL(text)
        url.host.encode("idna")  # as the resolver will do
    except (httpx.InvalidURL, UnicodeError):  # brackets that don't match, a port that is no number
        return False
    return url.scheme in ("http", "https") and bool(url.host) and url.port != 0 and (url.port or 1) < 65536
