"""How many uploads may be under way at once."""

import pytest

from api.intake.upload import UploadSlots
from shared.infra.errors import TooManyUploads


def test_an_upload_past_the_limit_is_told_the_limit_until_one_is_over() -> None:
    slots = UploadSlots(2)
    with slots:
        with slots, pytest.raises(TooManyUploads) as refused:
            slots.__enter__()
        with slots:
            pass
    assert str(refused.value) == "2 uploads are under way, which is the limit"
