"""Which addresses a plugin's request may be sent to."""

import ipaddress
from enum import Enum

import psutil

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# SECURITY: each of these hands out credentials or configuration of the machine, some from public-looking ranges.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Google, Azure, Oracle, DigitalOcean, OpenStack
        "169.254.170.2",  # AWS ECS
        "169.254.170.23",  # AWS EKS
        "169.254.169.253",  # AWS DNS
        "169.254.42.42",  # Scaleway
        "169.254.0.23",  # Tencent
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure wire server
        "192.0.0.192",  # Oracle Classic
        "fd00:ec2::254",  # AWS
        "fd00:ec2::253",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
        "fe80::a9fe:a9fe",  # OpenStack
    )
)
# The network to itself, to everybody, to nobody; and tunnels that carry an IPv4 address out of sight.
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0:0/96",  # IPv4-translated
        "64:ff9b:1::/48",  # local NAT64
        "100::/64",  # discard
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local, deprecated
        "ff00::/8",
    )
)
_LOOPBACK_6 = ipaddress.ip_address("::1")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOW_32 = 0xFFFFFFFF


class Reach(Enum):
    """How near an address is."""

    GLOBAL = "global"
    PRIVATE = "private"  # loopback, private, link-local, shared: only where a rule names it literally
    NEVER = "never"


def reach_of(address: Address) -> Reach:
    """Tell how near `address` is, an IPv4 address inside an IPv6 one counting as itself."""
    real = _unwrapped(address)
    if getattr(real, "scope_id", None) is not None or real in _METADATA:
        return Reach.NEVER
    if real != _LOOPBACK_6 and any(real.version == net.version and real in net for net in _NEVER):
        return Reach.NEVER
    return Reach.GLOBAL if real.is_global and not real.is_multicast else Reach.PRIVATE


def is_this_host(address: Address) -> bool:
    """Tell whether what is sent to `address` arrives at this machine."""
    real = _unwrapped(address)
    if real.is_loopback or real.is_unspecified:
        return True
    return any(str(real) == own.address.partition("%")[0] for each in psutil.net_if_addrs().values() for own in each)


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & _LOW_32)
    return address
