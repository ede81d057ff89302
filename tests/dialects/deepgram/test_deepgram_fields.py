"""The table of the Deepgram dialect knows every field of the pinned SDK."""

from deepgram.listen.v1.media.client import MediaClient
from deepgram.types.listen_v1response import ListenV1Response
from sdkfields import arguments, members, unknown_members, unknown_parameters

from api.dialects.deepgram.tables import LISTEN

OF_THE_CLIENT = ("request_options", "url", "request")


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
