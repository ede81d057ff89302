"""The wall around requests to URLs that clients name."""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address

import pytest
import trustme

from harness.peers.receivers import Receiver, Reply, receiving
from shared.infra.addresses import is_public
from shared.infra.errors import ForbiddenUrl, OutboundFailed
from shared.infra.outbound import Answer, Outbound

LOOPBACK = "127.0.0.1/32"

NOT_PUBLIC = {
    "this host": ["0.0.0.0", "0.1.2.3", "::"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1"],
    "link-local": ["169.254.1.1", "fe80::1", "fe80::1%eth0"],
    "site-local": ["fec0::1"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192"],
    "azure's host": ["168.63.129.16"],
    "shared (CGNAT)": ["100.64.0.1", "100.127.255.255"],
    "protocol assignments": ["192.0.0.1", "192.0.0.9", "2001:1::1", "2001:20::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarking": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "4000::1"],
    "6to4": ["192.88.99.1", "2002:7f00:1::1", "2002:a9fe:a9fe::"],
    "Teredo": ["2001:0:7f00:1::"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::7f00:1"],
    "v4-mapped": ["::ffff:127.0.0.1", "::ffff:8.8.8.8"],
    "v4-compatible": ["::127.0.0.1", "::8.8.8.8"],
    "discard": ["100::1"],
}
PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1"),
    *("169.253.0.1", "192.0.1.1", "198.17.255.255", "223.255.255.255", "168.63.129.17"),
    *("2606:4700:4700::1111", "2001:4860:4860::8888", "2a00::1", "2003::1", "3fff:1000::1"),
]


@pytest.mark.parametrize(
    "address", [each for group in NOT_PUBLIC.values() for each in group], ids=str
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_beside_the_refused_ones_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "file:///etc/passwd", "example.com", ""),
        *("//example.com/", "https:///path", "https://", "https://[::1"),
        *("https://user@example.com/", "https://user:password@example.com/"),
        *("https://127.0.0.1/", "https://127.1/", "https://0x7f.1/", "https://2130706433/"),
        *("https://0177.0.0.1/", "https://169.254.169.254/latest/meta-data/", "https://10.1.2.3/"),
        *("https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[fd00:ec2::254]/"),
        *("https://[", "https://]/", "https://a[b/", "https://a b/", "https://a..b/", "https://./"),
        *("https://%41/", "https://-a/", "https://*/", f"https://{'a' * 64}.de/", "https://a\\b/"),
        f"https://{'a.' * 127}de/",
        *("https://localhost/", "https://LOCALHOST:8443/", "https://a.localhost/"),
        *(
            "https://exa\nmple.com/",
            "https://example.com/" + "x" * 2048,
            "https://h:65536/",
            "https://h:0/",
        ),
    ],
)
def test_a_url_is_refused_at_first_sight(url: str) -> None:
    with pytest.raises(ForbiddenUrl):
        Outbound().check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *("https://example.com", "https://example.com:8443/a?b=c", "https://8.8.8.8/"),
        *("HTTPS://ä.de/", "https://example.com./", "https://my_host/"),
        "https://[2606:4700::1111]/",
    ],
)
def test_a_url_of_the_open_network_is_taken(url: str) -> None:
    Outbound().check_url(url)


def allowed_by(what: str, setting: str = "LONGHAND_OUTBOUND_ALLOW") -> str:
    return f"(an operator can allow {what}: {setting})"


@pytest.mark.parametrize(
    ("url", "allow_http", "said"),
    [
        (
            "http://example.com/",
            False,
            f"the URL must begin with https:// {allowed_by('http://', 'LONGHAND_OUTBOUND_HTTP')}",
        ),
        ("ftp://example.com/", False, "the URL must begin with https://"),
        ("ftp://example.com/", True, "the URL must begin with https:// or http://"),
        (
            "https://127.0.0.1/",
            False,
            f"the URL names an address that is not public {allowed_by('it')}",
        ),
        ("https://h/" + "x" * 2048, False, "the URL is longer than 2,048 characters"),
    ],
)
def test_a_refusal_names_the_setting_that_would_help_if_there_is_one(
    url: str, allow_http: bool, said: str
) -> None:
    with pytest.raises(ForbiddenUrl) as refused:
        Outbound(allow_http=allow_http).check_url(url)
    assert str(refused.value) == said


def outbound(resolve: Callable[[str], list[str]], *allow: str, **given: object) -> Outbound:
    return Outbound(allow_http=True, allow=allow, resolver=resolve, **given)  # type: ignore[arg-type]


def post(wall: Outbound, url: str, *, timeout_s: float = 60.0) -> Answer:
    headers = {"X-Name": "value"}
    return wall.send("POST", url, body=b'{"a":1}', headers=headers, timeout_s=timeout_s)


def nowhere(host: str) -> list[str]:
    raise AssertionError(f"{host} was looked up")


def test_what_is_posted_arrives_and_the_answer_comes_back() -> None:
    with receiving(Reply(201, {"Retry-After": "7"}, b"thanks")) as receiver:
        answer = post(outbound(nowhere, LOOPBACK), receiver.url)
    assert (answer.status_code, answer.headers["retry-after"]) == (201, "7")
    (request,) = receiver.requests
    assert (request.path, request.body) == ("/hook", b'{"a":1}')
    assert request.headers["x-name"] == "value"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["fe80::1%lo"], [], ["x"]],
    ids=str,
)
def test_a_name_that_leads_to_an_address_that_is_not_public_is_not_dialled(
    found: list[str],
) -> None:
    with receiving() as receiver:
        wall = outbound(lambda host: found)
        with pytest.raises(OutboundFailed, match="no public address"):
            post(wall, f"http://innocent.example:{receiver.port}/")
    assert receiver.requests == []


def test_a_name_that_does_not_exist_and_an_inner_one_are_told_alike() -> None:
    def unknown(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    said = []
    for resolve in (unknown, lambda host: ["10.0.0.1"]):
        with pytest.raises(OutboundFailed) as failed:
            post(outbound(resolve), "http://inner.example/")
        said.append(str(failed.value))
    assert said[0] == said[1]
    assert said[0] == (f"the URL's host has no public address {allowed_by('it')}")


def test_the_checked_address_is_dialled_whatever_a_second_look_up_would_say() -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    with receiving() as checked, receiving(host="127.0.0.2", port=checked.port) as rebound:
        wall = outbound(lambda host: next(answers), LOOPBACK)
        url = f"http://rebinding.example:{checked.port}/hook"
        assert post(wall, url).status_code == 204
        assert len(checked.requests) == 1
        with pytest.raises(OutboundFailed, match="no public address"):
            post(wall, url)
    assert rebound.requests == []
    assert len(checked.requests) == 1


def test_the_next_address_is_tried_where_one_refuses() -> None:
    with receiving() as receiver:
        wall = outbound(lambda host: ["127.0.0.9", "127.0.0.1"], "127.0.0.0/8")
        assert post(wall, f"http://two.example:{receiver.port}/").status_code == 204


@pytest.mark.parametrize("allowed", ["inner.example", "INNER.example", "127.0.0.0/8", "127.0.0.1"])
def test_an_operator_may_allow_a_host_or_a_network(allowed: str) -> None:
    with receiving() as receiver:
        wall = outbound(lambda host: ["127.0.0.1"], allowed)
        assert post(wall, f"http://inner.example:{receiver.port}/").status_code == 204
        with pytest.raises(OutboundFailed):
            post(outbound(lambda host: ["127.0.0.1"], "other.example"), "http://inner.example/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_answered_and_not_followed(status: int) -> None:
    with receiving() as target:
        with receiving(Reply(status, {"Location": target.url})) as receiver:
            assert post(outbound(nowhere, LOOPBACK), receiver.url).status_code == status
        assert target.requests == []


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        post(outbound(nowhere, LOOPBACK), receiver.url)
    assert proxy.requests == []
    assert len(receiver.requests) == 1


def is_given_up_within(limit_s: float, ask: Callable[[], object], why: str) -> bool:
    """Ask in vain, up to four times: the machine may stand still meanwhile, but not each time."""
    for _ in range(4):
        began = time.monotonic()
        with pytest.raises(OutboundFailed) as failed:
            ask()
        if time.monotonic() - began < limit_s and re.search(why, str(failed.value)):
            return True
    return False


def test_a_receiver_that_hangs_is_given_up_in_time() -> None:
    def ask() -> None:
        with receiving(Reply(hang=True)) as receiver:
            post(outbound(nowhere, LOOPBACK), receiver.url, timeout_s=0.3)

    assert is_given_up_within(3, ask, r"no answer within 0\.3 seconds")


def test_a_look_up_that_hangs_is_given_up_in_time() -> None:
    hanging = threading.Event()

    def resolve(host: str) -> list[str]:
        hanging.wait(60)
        return []

    def ask() -> None:
        post(outbound(resolve), "http://slow.example/", timeout_s=0.3)

    assert is_given_up_within(3, ask, "took too long")
    hanging.set()


@contextmanager
def speaking(said: Iterable[bytes]) -> Iterator[str]:
    """A server that answers one connection with these bytes, whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(65_536)
                for data in said:
                    connection.sendall(data)
                # To close with a part of the request unread would reset the connection.
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass

        thread = threading.Thread(target=speak)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join(20)


def test_an_answer_that_drips_is_given_up_in_time() -> None:
    def drip() -> Iterator[bytes]:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + bytes(300):  # it would last for half a minute
            time.sleep(0.1)
            yield bytes([byte])

    def ask() -> None:
        with speaking(drip()) as url:
            post(outbound(nowhere, LOOPBACK), url, timeout_s=0.5)

    assert is_given_up_within(1.4, ask, "no answer within")


def test_of_a_long_answer_no_more_than_a_little_is_read() -> None:
    sent: list[bytes] = []

    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
        for _ in range(1000):
            sent.append(bytes(100_000))
            yield sent[-1]

    with speaking(endless()) as url:
        assert post(outbound(nowhere, LOOPBACK), url).status_code == 200
    assert len(sent) < 200


def test_a_status_counts_though_the_body_breaks_off() -> None:
    with speaking([b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nabc"]) as url:
        assert post(outbound(nowhere, LOOPBACK), url).status_code == 202


@pytest.mark.parametrize("said", [b"", b"no HTTP\r\n\r\n", b"HTTP/1.1 20"])
def test_an_answer_that_is_none_is_told(said: bytes) -> None:
    with speaking([said]) as url, pytest.raises(OutboundFailed, match="valid HTTP"):
        post(outbound(nowhere, LOOPBACK), url)


def test_a_connection_refused_is_told() -> None:
    with receiving() as receiver:
        url = receiver.url
    with pytest.raises(OutboundFailed, match="refused"):
        post(outbound(nowhere, LOOPBACK), url)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Receiver]:
    """A receiver with a certificate for ``named.example``."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("named.example").configure_cert(served)
    with receiving(tls=served) as receiver:
        yield receiver


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_tls_verifies_the_name_though_an_address_is_dialled(
    secure: Receiver, trusting: ssl.SSLContext
) -> None:
    wall = outbound(lambda host: ["127.0.0.1"], LOOPBACK, ssl_context=trusting)
    assert post(wall, f"https://named.example:{secure.port}/").status_code == 204
    with pytest.raises(OutboundFailed, match="certificate"):
        post(wall, f"https://other.example:{secure.port}/")


def test_a_certificate_of_an_unknown_authority_is_refused(secure: Receiver) -> None:
    wall = outbound(lambda host: ["127.0.0.1"], LOOPBACK)
    with pytest.raises(OutboundFailed, match="certificate"):
        post(wall, f"https://named.example:{secure.port}/")
    assert secure.requests == []
