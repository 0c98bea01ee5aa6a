"""Attacks on what a run released: who took part, what they are like, what one contribution shows.

Each stands beside a control that knows nothing and, where there is one, beside the most that the claim allows. An attack
that fails proves nothing; one that beats its bound proves a bug. Everything is made up here but the released backbone.
"""

from homespun.simulations.attacks.attributes import infer_attributes
from homespun.simulations.attacks.command import attack_run
from homespun.simulations.attacks.membership import infer_membership
from homespun.simulations.attacks.reconstruction import reconstruct
from homespun.simulations.attacks.target import Target, load_target

__all__ = ["Target", "attack_run", "infer_attributes", "infer_membership", "load_target", "reconstruct"]
