from levibot_core.models.pruning import ROUNDS_PER_POINT, MedianRule

CURVES = [[0.70, 0.69, 0.68], [0.72, 0.70], [0.71, 0.70, 0.69], [0.74, 0.73, 0.72], [0.75]]


def test_a_trial_above_the_median_of_the_others_is_given_up_after_the_warm_up() -> None:
    rule = MedianRule(CURVES, warm_up_rounds=ROUNDS_PER_POINT)
    assert rule.keeps([0.99])
    assert not rule.keeps([0.99, 0.71])
    # By the second point the others have reached 0.69, 0.70, 0.70, 0.73 and, stopped before, 0.75.
    assert rule.keeps([0.99, 0.70])
    # By the third: 0.68, 0.70, 0.69, 0.72 and 0.75.
    assert rule.keeps([0.99, 0.8, 0.70])
    assert not rule.keeps([0.99, 0.8, 0.7001])


def test_nothing_is_given_up_before_enough_trials_completed() -> None:
    assert MedianRule(CURVES[:4], warm_up_rounds=0).keeps([9.0, 9.0, 9.0])
    assert MedianRule([*CURVES[:4], []], warm_up_rounds=0).keeps([9.0, 9.0, 9.0])
