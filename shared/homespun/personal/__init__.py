"""The preference model: shared backbone, private adapter, bounds, gate and the phases that learn it privately."""

from homespun.personal.backbone import Backbone, average_user
from homespun.personal.bounds import Scores, TierCaps, score, universal_directions
from homespun.personal.fit import Adapter, fit
from homespun.personal.gate import gate
from homespun.personal.geometry import Geometry
from homespun.personal.learner import Learner, preference_learner
from homespun.personal.pairs import Pairs, make_pairs
from homespun.personal.phases import BasisPhase, MeanPhase
from homespun.personal.predict import Prediction, predict
from homespun.personal.private import BlockSum, PublicMoments, record_dimension, record_rows, release_block
from homespun.personal.private_fit import private_adapter, private_gate
from homespun.personal.records import Records, choices_of
from homespun.personal.refine import RefinePhase
from homespun.personal.spread import SpreadPhase

__all__ = [
    "Adapter",
    "Backbone",
    "BasisPhase",
    "BlockSum",
    "Geometry",
    "Learner",
    "MeanPhase",
    "Pairs",
    "Prediction",
    "PublicMoments",
    "Records",
    "RefinePhase",
    "Scores",
    "SpreadPhase",
    "TierCaps",
    "average_user",
    "choices_of",
    "fit",
    "gate",
    "make_pairs",
    "predict",
    "preference_learner",
    "private_adapter",
    "private_gate",
    "record_dimension",
    "record_rows",
    "release_block",
    "score",
    "universal_directions",
]
