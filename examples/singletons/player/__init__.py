"""A player, who tells the host's scoreboard of each word."""

from scoreboard import Scoreboard

from pyisolate import ExtensionBase


class Player(ExtensionBase):
    async def play(self, name: str, words: list[str]) -> int:
        board = Scoreboard()  # in an extension: a proxy of the host's
        score = 0
        for word in words:
            score = await board.add(name, board.points_for(word))
        return score
