"""JWTs: whose are taken, and what happens while the issuer is away."""

import asyncio
import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.access.jwt import PAUSE_S, Issuer
from api.access.principal import Principal
from harness.servers.api_server import api, assert_problem
from shared.infra.errors import IssuerUnavailable, Unauthenticated
from shared.infra.settings import Settings


@dataclass
class Provider:
    """An issuer on loopback."""

    url: str = ""
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    shown: dict[str, str] | None = None
    """A further key, which is no public one."""
    is_away: bool = False
    asked: int = 0
    is_asked: threading.Event = field(default_factory=threading.Event)
    answers: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Give no answer while the block runs."""
        self.is_asked.clear()
        self.answers.clear()
        try:
            yield
        finally:
            self.answers.set()

    def add(self, key_id: str) -> None:
        self.keys[key_id] = ec.generate_private_key(ec.SECP256R1())

    def token(
        self, key_id: str = "one", *, key: Any = None, alg: str = "ES256", **claims: Any
    ) -> str:
        usual = {
            "iss": self.url,
            "aud": "longhand",
            "exp": time.time() + 60,
            "tenant": "acme",
            "scope": "jobs:read live unknown",
        }
        given = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode(given, key or self.keys[key_id], algorithm=alg, headers={"kid": key_id})

    def answer(self, path: str) -> Any:
        if path.endswith("openid-configuration"):
            return {"jwks_uri": f"{self.url}/keys"}
        self.asked += 1
        self.is_asked.set()
        self.answers.wait()
        algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
        return {
            "keys": [
                algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": name, "alg": "ES256"}
                for name, key in self.keys.items()
            ]
            + ([self.shown] if self.shown else [])
        }


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    made.add("one")
    made.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(made.answer(self.path)).encode()
            self.send_response(503 if made.is_away else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def test_a_jwt_gives_its_tenant_and_the_scopes_that_exist(provider: Provider) -> None:
    issuer = Issuer(Settings(jwt_issuer=provider.url))
    wanted = Principal("acme", frozenset({"jobs:read", "live"}), None)

    async def ask() -> None:
        assert await issuer.principal(provider.token()) == wanted
        assert await issuer.principal(provider.token(scope=["live", "jobs:read"])) == wanted
        for none in (None, 5, {"live": True}, [["live"]], "Live"):
            assert (await issuer.principal(provider.token(scope=none))).scopes == frozenset()

    asyncio.run(ask())
    assert provider.asked == 1


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://another.example"},
        {"aud": "another"},
        {"exp": 1},
        {"exp": None},
        {"aud": None},
        {"tenant": None},
        {"tenant": "*"},
        {"tenant": ["acme"]},
        {"alg": "HS256", "key": "k" * 32},
        {"key": ec.generate_private_key(ec.SECP256R1())},
    ],
    ids=[
        "iss",
        "aud",
        "exp",
        "no exp",
        "no aud",
        "no tenant",
        "every tenant",
        "tenants",
        "HS256",
        "key",
    ],
)
def test_any_other_jwt_is_refused(provider: Provider, claims: dict[str, Any]) -> None:
    issuer = Issuer(Settings(jwt_issuer=provider.url))
    with pytest.raises(Unauthenticated):
        asyncio.run(issuer.principal(provider.token(**claims)))


def forged(provider: Provider, algorithm: str, secret: bytes, key_id: str = "one") -> str:
    """Return a JWT signed with HMAC, whatever its header says."""
    _, claims, _ = provider.token().split(".")
    head = json.dumps({"alg": algorithm, "kid": key_id}).encode()
    signed = urlsafe_b64encode(head).rstrip(b"=") + b"." + claims.encode()
    signature = hmac.digest(secret, signed, "sha256") if secret else b""
    return (signed + b"." + urlsafe_b64encode(signature).rstrip(b"=")).decode()


def test_no_jwt_is_taken_whose_signature_anybody_could_make(provider: Provider) -> None:
    public = provider.keys["one"].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    shared = b"a secret that the issuer shows!!"
    provider.shown = {"kty": "oct", "kid": "shared", "k": urlsafe_b64encode(shared).decode()}
    issuer = Issuer(Settings(jwt_issuer=provider.url))
    tokens = [
        forged(provider, "none", b""),
        forged(provider, "None", b""),
        *(forged(provider, alg, key) for alg in ("HS256", "ES256") for key in (pem, der)),
        *(forged(provider, alg, shared, "shared") for alg in ("HS256", "ES256", "RS256")),
        f"{urlsafe_b64encode(b'[' * 40_000).decode().rstrip('=')}.e30.x",
        "..",
    ]

    async def ask() -> None:
        await issuer.principal(provider.token())
        for token in tokens:
            with pytest.raises(Unauthenticated):
                await issuer.principal(token)

    asyncio.run(ask())


def test_whoever_names_unknown_keys_makes_nobody_else_wait_for_the_issuer(
    provider: Provider,
) -> None:
    now = 0.0
    issuer = Issuer(Settings(jwt_issuer=provider.url), clock=lambda: now)

    async def ask() -> None:
        nonlocal now
        await issuer.principal(provider.token())
        now += PAUSE_S
        provider.add("two")
        unknown = provider.token("two")
        with provider.hanging():
            attack = [asyncio.create_task(issuer.principal(unknown)) for _ in range(5)]
            await asyncio.to_thread(provider.is_asked.wait)
            async with asyncio.timeout(30):  # the issuer is waited for twice as long
                await issuer.principal(provider.token())
        await asyncio.gather(*attack)
        assert provider.asked == 2

    asyncio.run(ask())


def test_unknown_keys_are_fetched_within_a_bound_and_an_outage_is_told_as_such(
    provider: Provider,
) -> None:
    now = 0.0
    issuer = Issuer(Settings(jwt_issuer=provider.url), clock=lambda: now)

    async def ask() -> None:
        nonlocal now
        await issuer.principal(provider.token())
        provider.add("two")
        for _ in range(5):
            with pytest.raises(Unauthenticated):
                await issuer.principal(provider.token("two"))
        assert provider.asked == 1
        now += PAUSE_S
        await issuer.principal(provider.token("two"))
        assert provider.asked == 2
        provider.is_away = True
        provider.add("three")
        now += PAUSE_S
        with pytest.raises(IssuerUnavailable):
            await issuer.principal(provider.token("three"))
        await issuer.principal(provider.token("two"))  # what is known goes on

    asyncio.run(ask())


def test_the_api_takes_jwts_beside_keys(provider: Provider, module_settings: Settings) -> None:
    settings = module_settings.model_copy(update={"auth": "on", "jwt_issuer": provider.url})
    with api(settings) as client:
        for token, status in ((provider.token(), 200), (provider.token(exp=1), 401)):
            answer = client.get("/jobs", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == status
        refused = client.post("/tokens", headers={"X-API-Key": provider.token(scope="jobs:read")})
        assert_problem(refused, 403, "scope_missing")
        provider.is_away = True
        provider.add("new")
    with api(settings) as client:
        away = client.get("/jobs", headers={"Authorization": f"Bearer {provider.token('new')}"})
        assert_problem(away, 503, "issuer_unavailable")
