"""What cloud-init's own classes make of what a guest is told. Run by Debian's Python, with Debian's cloud-init in PYTHONPATH,
in the network of the guest: DATASOURCE DIRECTORY SETTINGS FIRMWARE. Prints JSON.

DIRECTORY is cloud-init's own, with seed/; SETTINGS are those of this datasource in cloud.cfg. FIRMWARE says which cloud the
machine seems to be, as the classes ask nobody else; the firmware of a test machine would be as good a guess.
"""

import base64
import json
import sys

from cloudinit import distros, dmi, helpers
from cloudinit.sources import DataSourceEc2, DataSourceNoCloud, DataSourceOpenStack

DATASOURCES = {
    "NoCloud": DataSourceNoCloud.DataSourceNoCloud,
    "NoCloudNet": DataSourceNoCloud.DataSourceNoCloudNet,
    "OpenStack": DataSourceOpenStack.DataSourceOpenStack,
    "Ec2": DataSourceEc2.DataSourceEc2,
}

name, directory, settings, firmware = sys.argv[1:]
dmi.read_dmi_data = json.loads(firmware).get
paths = helpers.Paths({"cloud_dir": directory, "run_dir": directory})
config = {"datasource": {name.removesuffix("Net"): json.loads(settings)}, "datasource_list": [name]}
source = DATASOURCES[name](config, distros.fetch("debian")("debian", {}, paths), paths)
assert source.get_data(), "this datasource has found nothing"
found = {
    "id": source.get_instance_id(),
    "hostname": str(getattr(source.get_hostname(), "hostname", source.get_hostname())),
    "keys": source.get_public_ssh_keys(),
    "user_data": base64.b64encode(source.get_userdata_raw() or b"").decode(),
    "network": source.network_config,
}
print(json.dumps(found))
