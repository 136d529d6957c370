"""What the API daemon makes of its settings."""

from ucloud.base.config import Config, Host, Network
from ucloud.daemon.api import settings


def test_no_network_of_vms_lies_where_the_hosts_are() -> None:
    assert settings(Config(host=Host(address="fd00:1:2:3::7"))).underlay == ("fd00:1:2:3::/64",)
    assert settings(Config(network=Network(underlay=("fd00::/48",)))).underlay == ("fd00::/48",)
