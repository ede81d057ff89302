"""Network addresses: which ones are public, and which hosts are addresses."""

import re
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAX_NAME_CHARS = 253
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")

_FORBIDDEN_V4 = tuple(
    map(
        IPv4Network,
        (
            # IANA's registry of special-purpose addresses, without those that are public.
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
            *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
            "224.0.0.0/4",  # multicast
            "168.63.129.16/32",  # a public address at which Azure serves each host's agent
        ),
    )
)
_PUBLIC_V6 = IPv6Network("2000::/3")
"""IANA's global unicast. It excludes loopback, unique local, link-local and multicast addresses,
and those that wrap an IPv4 address: v4-mapped, v4-compatible, NAT64 (64:ff9b::/96,
64:ff9b:1::/48)."""
_FORBIDDEN_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: wraps an IPv4 address
            "3fff::/20",  # documentation
        ),
    )
)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on ``host``: a loopback address or its name.

    A name counts if it is ``localhost``; others may lead anywhere.
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_public(address: Address) -> bool:
    """Return whether an address is public.

    The standard library's ``is_global`` passes multicast, 6to4 and NAT64 and differs between
    versions, so the tables are our own.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _FORBIDDEN_V4)
    return address in _PUBLIC_V6 and not any(address in network for network in _FORBIDDEN_V6)


def is_host_name(host: str) -> bool:
    """Return whether a host has the form of a name, as DNS knows it (RFC 1123).

    Underscores are taken too, as container networks have them. Other names are in their ASCII form.
    """
    labels = host.removesuffix(".").split(".")
    return len(host) <= _MAX_NAME_CHARS and all(map(_LABEL.fullmatch, labels))


def parse_address(host: str) -> Address | None:
    """Return the address that a host is, in any spelling that ``inet_aton`` knows; None: a name."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return IPv4Address("127.0.0.1")  # RFC 6761, whatever a name server says
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433
    except OSError:
        return None
