"""The least that a lesson may ask of its claims: bounds may be made stricter in a lesson, never looser than here."""

FLOORS = {
    "00": {
        "memorised": {"each_at_least": 0.9},
        "nothing-learned": {"each_at_most": 0.2},
    },
    "01": {
        "polynomial-order": {"each_at_least": 1},
        "early-stopping": {"each_at_least": 0.08},
        "accuracy-stays": {"each_at_least": -0.01},
        "dropout-gap": {"mean_at_least": 0.02, "each_at_least": 0},
        "batch-norm-epochs": {"each_at_most": 0.5},
        "second-descent": {"each_at_least": 0.3},
        "output-dropout": {"each_at_least": 0.4, "each_at_most": 0.6},
    },
}
