"""The served models as submissions see them: asked for seldom, and again before a refusal."""

import asyncio
from pathlib import Path

import pytest

from api.intake.options import KEEP_S, OptionCheck, ServedModels
from shared.infra.errors import DatabaseUnavailable, ModelNotServed
from shared.infra.outbound import Outbound
from shared.infra.settings import Settings
from shared.models.catalogue import load_catalogue
from shared.models.options import JobOptions

CATALOGUE = load_catalogue(Path(__file__).parents[3] / "models.toml")


class Platform:
    """Serves what a test says, and counts how often it is asked."""

    def __init__(self, *models: str) -> None:
        self.served = frozenset(models)
        self.asked = 0
        self.away = False
        self.now_s = 0.0

    def find(self) -> frozenset[str]:
        self.asked += 1
        if self.away:
            raise DatabaseUnavailable("Postgres cannot be reached")
        return self.served

    def models(self) -> ServedModels:
        return ServedModels(self.find, clock=lambda: self.now_s)

    def check(self) -> OptionCheck:
        return OptionCheck(CATALOGUE, "", Outbound.of(Settings()), self.models())


def test_many_submissions_within_a_second_ask_once() -> None:
    async def scenario() -> None:
        platform = Platform("oracle")
        models = platform.models()
        found = await asyncio.gather(*(models.get() for _ in range(50)))
        assert {*found} == {platform.served}
        assert await models.get() == platform.served
        assert platform.asked == 1
        platform.now_s = KEEP_S
        await models.get()
        assert platform.asked == 2

    asyncio.run(scenario())


def test_a_database_that_is_away_is_told_to_all_who_ask_and_asked_again() -> None:
    async def scenario() -> None:
        platform = Platform("oracle")
        platform.away = True
        models = platform.models()
        told = await asyncio.gather(*(models.get() for _ in range(5)), return_exceptions=True)
        assert [type(each) for each in told] == [DatabaseUnavailable] * 5
        platform.away = False
        assert await models.get() == platform.served

    asyncio.run(scenario())


def test_a_worker_that_has_just_come_is_seen_before_its_model_is_refused() -> None:
    async def scenario() -> None:
        platform = Platform("oracle")
        check = platform.check()
        await check.prepare()
        asked = JobOptions(model="whisper-tiny")
        with pytest.raises(ModelNotServed):
            await check.resolve(asked)
        platform.served |= {"whisper-tiny"}
        assert (await check.resolve(asked)).model == "whisper-tiny"

    asyncio.run(scenario())


def test_a_model_that_is_known_to_be_served_is_not_asked_for_again() -> None:
    async def scenario() -> None:
        platform = Platform("oracle")
        check = platform.check()
        for _ in range(3):
            assert (await check.resolve(JobOptions(model="oracle"))).model == "oracle"
        assert platform.asked == 1

    asyncio.run(scenario())
