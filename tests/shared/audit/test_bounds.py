from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from homespun.audit.bounds import (
    Game,
    epsilon_of,
    fdp_mu,
    gaussian_interval,
    lowest_mu,
    mu_of,
    snj_epsilon,
)
from homespun.audit.guesses import choose_guesses
from homespun.audit.separation import auc, best_auc, best_tpr, clopper_pearson, mean_of, reached_fpr, tpr_at_fpr

DELTA = 1e-5


def play(mu: float, canaries: int, seed: int, guesses: int = 100) -> Game:
    rng = np.random.default_rng(seed)
    coins = rng.random(canaries) < 0.5
    return Game(coins=coins, scores=rng.normal(size=canaries) + mu * coins, guesses=guesses)


@pytest.mark.parametrize(
    ("epsilon", "canaries", "snj", "fdp", "gauss"),
    [
        (1.0, 10_000, 0.38, 0.48, 0.90),
        (2.0, 1000, 0.63, 0.74, 1.56),
        (4.0, 1000, 1.45, 1.88, 3.52),
        (8.0, 1000, 2.8, 3.95, 7.3),
    ],
)
def test_power(epsilon: float, canaries: int, snj: float, fdp: float, gauss: float) -> None:
    """Mean bounds of ideal canaries; the published table has .48/.35/1.43/2.98, two-sided f-DP, and .92/1.58/3.55/7.38."""
    mu = mu_of(epsilon, delta=DELTA)
    k = choose_guesses(canaries, mu)
    games = [play(mu, canaries, seed, k) for seed in range(20)]
    assert np.mean([snj_epsilon(g, delta=DELTA, confidence=0.95) for g in games]) == pytest.approx(snj, rel=0.25)
    assert np.mean([epsilon_of(fdp_mu(g, confidence=0.95), delta=DELTA) for g in games]) == pytest.approx(fdp, rel=0.25)
    lows = [epsilon_of(gaussian_interval(g.coins, g.scores, confidence=0.95).low, delta=DELTA) for g in games]
    assert np.mean(lows) == pytest.approx(gauss, rel=0.15)


@pytest.mark.parametrize(("epsilon", "known"), [(1.0, 0.43), (2.0, 1.03), (4.0, 2.30), (8.0, 4.74)])
def test_recursion_reproduces_the_published_table(epsilon: float, known: float) -> None:
    """That table guesses on both sides; the recursion is the same."""
    mu = mu_of(epsilon, delta=DELTA)
    counts = [(g.right_in + g.right_out) for g in (play(mu, 1000, seed, 110) for seed in range(40))]
    found = np.mean([epsilon_of(lowest_mu(1000, 220, right, 0.95), delta=DELTA) for right in counts])
    assert found == pytest.approx(known, rel=0.2)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_validity(epsilon: float) -> None:
    """Above the truth in at most 5 % of runs: 200 runs, of which 20 would happen once in a thousand tries at 5 %."""
    mu = mu_of(epsilon, delta=DELTA)
    games = [play(mu, 1000, seed) for seed in range(200)]
    worst = int(binom.isf(1e-3, 200, 0.05))
    assert sum(snj_epsilon(g, delta=DELTA, confidence=0.95) > epsilon for g in games) <= worst
    assert sum(fdp_mu(g, confidence=0.95) > mu for g in games) <= worst
    assert sum(gaussian_interval(g.coins, g.scores, confidence=0.95).low > mu for g in games) <= worst


def test_null_scores_show_nothing() -> None:
    games = [play(0.0, 1000, seed) for seed in range(50)]
    assert np.mean([snj_epsilon(g, delta=DELTA, confidence=0.95) for g in games]) < 0.02
    assert np.mean([epsilon_of(fdp_mu(g, confidence=0.95), delta=DELTA) for g in games]) < 0.05


def test_bounds_rise_with_what_is_guessed_right_and_fall_with_confidence() -> None:
    known = [lowest_mu(1000, 100, right, 0.95) for right in (40, 60, 80, 100)]
    assert known == sorted(known)
    assert lowest_mu(1000, 100, 80, 0.99) < lowest_mu(1000, 100, 80, 0.9)
    game = play(2.0, 400, seed=1, guesses=80)
    assert snj_epsilon(game, delta=DELTA, confidence=0.99) < snj_epsilon(game, delta=DELTA, confidence=0.9)
    assert snj_epsilon(game, delta=1e-3, confidence=0.95) < snj_epsilon(game, delta=0.0, confidence=0.95)


def test_snj_at_delta_zero_is_the_binomial_test() -> None:
    """All of r guesses right: the bound solves Q^r = 1 - confidence."""
    coins = np.arange(100) < 50
    found = snj_epsilon(Game(coins=coins, scores=-np.arange(100.0), guesses=10), delta=0.0, confidence=0.95)
    q = 0.05 ** (1 / 20)
    assert found == pytest.approx(math.log(q / (1 - q)), abs=1e-6)


def test_fdp_of_one_certain_guess() -> None:
    """One guess that is right: the recursion has one step, and a chance of one half of being right by luck is no news."""
    assert lowest_mu(1000, 1, 1, 0.95) == 0.0
    assert lowest_mu(2, 1, 1, 0.4) > 0.0


def test_equal_scores_are_no_evidence() -> None:
    """Ties are broken by place, never by coin."""
    coins = np.random.default_rng(0).random(1000) < 0.5
    game = Game(coins=coins, scores=np.zeros(1000), guesses=100)
    assert game.right_in == int(coins[:100].sum())
    assert snj_epsilon(game, delta=DELTA, confidence=0.95) == 0.0


def test_guesses_are_a_function_of_public_numbers() -> None:
    assert choose_guesses(1000, 0.5) == choose_guesses(1000, 0.5)
    assert 1 <= choose_guesses(4, 0.01) <= 2
    with pytest.raises(ValueError, match="canaries=3"):
        choose_guesses(3, 0.5)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0, 30.0])
def test_epsilon_and_mu_are_inverse(epsilon: float) -> None:
    """0.1, 1, 10 and 30 at 1e-5 are mu = .032521, .268051, 2.000446 and 4.657225."""
    known = {0.1: 0.032521, 1.0: 0.268051, 10.0: 2.000446, 30.0: 4.657225}
    assert mu_of(epsilon, delta=DELTA) == pytest.approx(known[epsilon], abs=1e-6)
    assert epsilon_of(mu_of(epsilon, delta=DELTA), delta=DELTA) == pytest.approx(epsilon, rel=1e-6)


def test_gaussian_interval_without_variation_is_infinite() -> None:
    coins = np.arange(10) < 5
    assert gaussian_interval(coins, coins.astype(float), confidence=0.95).low == math.inf
    assert gaussian_interval(coins, np.zeros(10), confidence=0.95).value == 0.0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda: Game(coins=np.ones(4, bool), scores=np.ones(3), guesses=1), "one shape"),
        (lambda: Game(coins=np.ones(4), scores=np.ones(4), guesses=1), "bool"),  # type: ignore[arg-type]
        (lambda: Game(coins=np.ones(4, bool), scores=np.full(4, np.nan), guesses=1), "finite"),
        (lambda: Game(coins=np.ones(4, bool), scores=np.ones(4), guesses=3), "guesses=3"),
        (lambda: fdp_mu(play(1.0, 100, 0, 10), confidence=1.0), "confidence=1.0"),
        (lambda: snj_epsilon(play(1.0, 100, 0, 10), delta=1.0, confidence=0.95), "delta=1.0"),
        (lambda: gaussian_interval(np.ones(9, bool), np.ones(9), confidence=0.9), "not 9 and 0"),
        (lambda: auc(np.ones(1), np.ones(5)), "not 1 and 5"),
        (lambda: tpr_at_fpr(np.ones(5), np.ones(5), fpr=1.0), "fpr=1.0"),
        (lambda: clopper_pearson(3, 2), "hits=3"),
    ],
)
def test_refuses(change: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        change()


def test_auc_counts_ties_half_and_covers_the_truth() -> None:
    assert auc(np.array([1.0, 1.0]), np.array([1.0, 1.0])).value == 0.5
    assert auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])).value == 1.0
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        found = auc(rng.normal(size=150) + 0.5, rng.normal(size=100))
        covered += found.low <= best_auc(0.5) <= found.high
    assert covered >= 180


def test_tpr_at_fpr_meets_the_curve() -> None:
    """mu = 1: 0.0924 at 1 % false alarms, 0.3891 at 10 %."""
    assert best_tpr(1.0, fpr=0.01) == pytest.approx(0.0924, abs=1e-4)
    assert best_tpr(1.0, fpr=0.1) == pytest.approx(0.3891, abs=1e-4)
    rng = np.random.default_rng(0)
    found = tpr_at_fpr(rng.normal(size=20_000) + 1.0, rng.normal(size=20_000), fpr=0.1)
    assert found.value == pytest.approx(0.389, abs=0.02)
    assert found.low < found.value < found.high


def test_clopper_pearson_known_answers() -> None:
    """Textbook: 0 of 10 is below .3085, 5 of 10 in [.1871, .8129]."""
    assert clopper_pearson(0, 10).high == pytest.approx(0.3085, abs=1e-4)
    assert (clopper_pearson(5, 10).low, clopper_pearson(5, 10).high) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert clopper_pearson(10, 10).high == 1.0


def test_few_others_cannot_tell_a_small_rate() -> None:
    """The mean of what is shown at 1 % stays below the curve at the rate that is really reached, not at 1 %."""
    rng = np.random.default_rng(0)
    shown = [tpr_at_fpr(rng.normal(size=200) + 0.5, rng.normal(size=24), fpr=0.01).value for _ in range(400)]
    assert reached_fpr(24, fpr=0.01) == 0.04
    assert best_tpr(0.5, fpr=0.01) < np.mean(shown) <= best_tpr(0.5, fpr=0.04) + 0.01


def test_mean_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    found = [mean_of(rng.normal(size=50)) for _ in range(200)]
    assert sum(one.low <= 0.0 <= one.high for one in found) >= 180
    assert mean_of(np.array([1.0])).low == -math.inf
