"""How VMs are shown to people: as the API gives them, but for what is easier to read in other words."""

from ucloud.cli.output import bytes_size, show_one, size
from ucloud.client import Json

COLUMNS = {
    "NAME": lambda vm: vm["name"],
    "PHASE": lambda vm: vm["phase"],
    "HOST": lambda vm: vm["host"] or "-",
    "ADDRESS": lambda vm: vm["addresses"][0] if vm["addresses"] else "-",
    "CPUS": lambda vm: vm["cpus"],
    "MEMORY": lambda vm: size(vm["memory_mib"]),
    "DISK": lambda vm: size(vm["disk_mib"]),
    "IMAGE": lambda vm: vm["image"],
    "ID": lambda vm: vm["id"],
}


def show_vm(vm: Json, output: str) -> None:
    if output == "table":
        vm = vm | {"ports": [port_text(port) for port in vm["ports"]], "user_data": _user_data_text(vm["user_data"])}
    show_one(vm, output)


def port_text(port: Json) -> str:
    allowed = f" (may: {', '.join(port['allow'])})" if port["allow"] else ""
    return f"{port['network']} {' '.join(addresses(port))} {port['mac']}{allowed}"


def addresses(port: Json) -> list[str]:
    return [address for address in (port["ipv6"], port["ipv4"]) if address]


def _user_data_text(user_data: Json | None) -> str:
    return f"{bytes_size(user_data['bytes'])}, SHA-256 {user_data['sha256']}" if user_data else ""
