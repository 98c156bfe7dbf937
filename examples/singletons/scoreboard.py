"""An object of which there is one, in the host. The host's folder is on the path of its extensions too."""

from pyisolate import ProxiedSingleton, local_execution


class Scoreboard(ProxiedSingleton):
    def __init__(self) -> None:
        self._scores: dict[str, int] = {}

    async def add(self, player: str, points: int) -> int:
        """Runs in the host, whoever calls it. Returns the player's score."""
        self._scores[player] = self._scores.get(player, 0) + points
        return self._scores[player]

    async def winner(self) -> str:
        return max(self._scores, key=lambda player: self._scores[player])

    @local_execution
    def points_for(self, word: str) -> int:
        """Runs where it is called: it needs nothing of the host."""
        return len(word)
