"""The SDK's client: one method per thing that the REST API can do; each noun has a module beside this one. Things are the
API's JSON objects, as dictionaries."""

from ucloud.base.errors import Error
from ucloud.client.action import Actions
from ucloud.client.cluster import Cluster
from ucloud.client.console import Consoles
from ucloud.client.event import Events
from ucloud.client.host import Hosts
from ucloud.client.image import Images
from ucloud.client.key import Keys
from ucloud.client.network import Networks
from ucloud.client.pool import Pools
from ucloud.client.vm import Vms


class Client(Vms, Consoles, Images, Keys, Networks, Hosts, Pools, Events, Cluster, Actions):
    """May be used by several threads at once.

    What is changed names an id, and each POST an Idempotency-Key, so that a request whose answer was lost is repeated
    without harm. Raises Unreachable when no server can be reached, Temporary when none can carry out the request yet.
    """

    def is_ready(self) -> bool:
        """The API answers, and its store too."""
        try:
            self._transport.request("GET", "/readyz")
        except Error:
            return False
        return True
