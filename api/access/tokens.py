"""``POST /tokens``: a token with which a page opens one WebSocket."""

from fastapi import APIRouter

from api.access.routes import needs
from api.access.schemas import SocketToken
from api.access.socket_tokens import LIFETIME_S
from api.openapi import problems
from api.resources import Asking, Provided
from shared.infra.errors import BrokerUnavailable
from shared.store.accounts.scopes import Scope

router = APIRouter(tags=["access"])


@needs(Scope.LIVE)
@router.post(
    "/tokens",
    summary="Get a token for one live session",
    status_code=201,
    responses=problems(BrokerUnavailable),
)
async def issue_token(resources: Provided, asking: Asking) -> SocketToken:
    """Return a token that opens one WebSocket within a minute, for a page that must know no key.

    The page offers it as the second subprotocol: `new WebSocket(url, ["longhand", token])`.
    """
    token = await resources.authenticator.issue_token(asking)
    return SocketToken(token=token, expires_in_s=LIFETIME_S)
