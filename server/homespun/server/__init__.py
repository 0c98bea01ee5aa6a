"""The server's side of a training: the coordinator, its checkpoints and the ServerApp around it.

Where devices stand behind the nodes, a round's sum is masked: `homespun.server.masked` runs the five steps of one
attempt, `homespun.server.attempts` tries again with new keys. Cells of a simulation, and devices that trust the server,
send plain vectors: `homespun.server.cohort`.
"""

from homespun.server.app import server_app
from homespun.server.checkpoint import Checkpoint, SharedState
from homespun.server.coordinator import coordinate
from homespun.server.training import RoundReport, Training

__all__ = ["Checkpoint", "RoundReport", "SharedState", "Training", "coordinate", "server_app"]
