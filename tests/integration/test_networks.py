"""Networks through all daemons, with fake hypervisor and network drivers: VMs come and go, and nothing of them is left."""

from collections.abc import Iterator

import pytest

from bench.cloud import wait_for
from bench.processes import IMAGE, PlainCloud, running
from ucloud.base.errors import Conflict
from ucloud.client import Client, Json

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainCloud]:
    cloud = PlainCloud(tmp_path_factory.mktemp("networks"), hosts=2, fsync=False)
    with running(cloud):
        yield cloud


def end(client: Client, action: Json) -> None:
    ended = client.wait(action, timeout_s=120)
    assert ended["state"] == "success", ended


def keys(cloud: PlainCloud, *prefixes: str) -> list[str]:
    with cloud.store() as store:
        return [item.key for prefix in prefixes for item in store.list(prefix).items]


def test_a_vm_on_networks_from_its_creation_to_its_end(cloud: PlainCloud) -> None:
    with cloud.client() as client:
        backend = client.create_network("backend", ipv4="10.1.0.0/24")
        vm, action = client.create_vm("web", IMAGE, memory_mib=64)
        end(client, action)
        assert [port["network"] for port in client.vm("web")["ports"]] == ["default"]
        end(client, client.attach_vm("web", "backend", ["ra"]))
        _, attached = client.vm("web")["ports"]
        assert keys(cloud, f"port/{backend['id']}/") == [f"port/{backend['id']}/{vm['id']}"]
        with pytest.raises(Conflict):
            client.delete_network("backend")
        end(client, client.detach_vm("web", "backend"))
        wait_for(lambda: keys(cloud, f"use/network/{backend['id']}/") == [], "its addresses to be released", pause_s=0.1)
        end(client, client.stop_vm("web", force=True))
        end(client, client.attach_vm("web", "backend"))
        assert client.vm("web")["ports"][1]["mac"] == attached["mac"], "its addresses follow from the ids"
        end(client, client.start_vm("web"))
        end(client, client.delete_vm("web"))
        for network in ("backend", "default"):
            end(client, client.delete_network(network))
    assert keys(cloud, "port/", "use/network/", "unique/address/", "unique/subnet/", "unique/vni/", "unique/ipv4/") == []


def test_the_first_vms_of_a_project_at_once(cloud: PlainCloud) -> None:
    with cloud.client() as client:
        made = [client.create_vm(f"first-{number}", IMAGE, memory_mib=64) for number in range(4)]
        for _, action in made:
            end(client, action)
        (network,) = client.networks()
        assert (network["name"], network["vms"]) == ("default", 4)
        addresses = {address for vm in client.vms() for address in vm["addresses"]}
        assert {member["ipv6"] for member in client.network("default")["members"]} == addresses
        assert len(addresses) == 4
