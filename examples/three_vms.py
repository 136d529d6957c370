"""Makes three VMs at once, waits until they run, lists them, and deletes them again: python examples/three_vms.py IMAGE

The API is found as by the command line: `ucloud help config`.
"""

import os
import sys

from ucloud.base.errors import Error, NoCapacity
from ucloud.client import Client, TimedOut, addresses


def main(image: str) -> None:
    with Client(addresses(os.environ)) as cloud:
        made = [cloud.create_vm(f"three-{n}", image, memory_mib=64, labels={"example": "three"}) for n in (1, 2, 3)]
        try:
            for vm, action in made:
                ended = cloud.wait(action, timeout_s=300)
                print(vm["name"], ended["error"] or "runs")
            for vm in cloud.vms(label="example=three"):
                print(f"{vm['name']} is {vm['phase']} on {vm['host']}, because {vm['reason']}")
        finally:
            for action in [cloud.delete_vm(vm["id"]) for vm, _ in made]:
                cloud.wait(action, timeout_s=300)
        print("all are gone")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} IMAGE")
    try:
        main(sys.argv[1])
    except NoCapacity as error:
        sys.exit(f"too large for this cloud: {error.message}")
    except TimedOut as error:
        sys.exit(f"{error.message}; what it waits for: ucloud vm list")
    except Error as error:  # everything else that ucloud says on purpose
        sys.exit(error.message)
