"""The tables of the Deepgram dialect know every field of the pinned SDK."""

from typing import get_args

from deepgram.auth.v1.tokens.client import TokensClient
from deepgram.listen.v1 import types
from deepgram.listen.v1.client import V1Client
from deepgram.listen.v1.media.client import MediaClient
from deepgram.listen.v1.socket_client import V1SocketClientResponse
from deepgram.types.grant_v1response import GrantV1Response
from deepgram.types.listen_v1response import ListenV1Response

from api.dialects.deepgram.live_tables import CONFIGURE, GRANT, LIVE
from api.dialects.deepgram.tables import LISTEN
from harness.clients.sdk_fields import arguments, members, unknown_members, unknown_parameters

OF_THE_CLIENT = ("request_options", "url", "request", "authorization")
NOT_IN_THE_SDK = {"no_delay", "filler_words"}
"""Parameters of live sessions that other clients send, LiveKit's plugin for one."""


def test_every_parameter_of_the_sdk_has_a_row() -> None:
    of_urls = arguments(MediaClient.transcribe_url, without=OF_THE_CLIENT)
    of_files = arguments(MediaClient.transcribe_file, without=OF_THE_CLIENT)
    assert len(of_urls) > 30
    assert unknown_parameters(of_urls | of_files, LISTEN) == set()


def test_the_table_has_no_row_that_the_sdk_lacks() -> None:
    known = arguments(MediaClient.transcribe_file, without=OF_THE_CLIENT)
    assert {parameter.name for parameter in LISTEN.takes} == known


def test_every_member_of_an_answer_of_the_sdk_has_a_row() -> None:
    assert unknown_members(members(ListenV1Response), LISTEN) == set()


def test_every_parameter_of_a_live_session_of_the_sdk_has_a_row() -> None:
    known = arguments(V1Client.connect, without=OF_THE_CLIENT)
    assert len(known) > 25
    assert {parameter.name for parameter in LIVE.takes} == known | NOT_IN_THE_SDK
    sent = set(types.ListenV1Configure.model_fields) - {"type"}
    assert {parameter.name for parameter in CONFIGURE.takes} == sent
    for message in (types.ListenV1Finalize, types.ListenV1CloseStream, types.ListenV1KeepAlive):
        assert set(message.model_fields) == {"type"}
    granted = arguments(TokensClient.grant, without=OF_THE_CLIENT)
    assert {parameter.name for parameter in GRANT.takes} == granted


def test_every_member_of_a_message_of_the_sdk_has_a_row() -> None:
    kinds = {
        f"{get_args(kind.model_fields['type'].annotation)[0]}: {name}"
        for kind in get_args(V1SocketClientResponse)
        for name in members(kind) - {"type"}
    }
    assert len(kinds) > 30
    assert unknown_members(kinds, LIVE) == set()
    assert unknown_members(members(GrantV1Response), GRANT) == set()
