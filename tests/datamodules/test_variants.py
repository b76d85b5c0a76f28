"""Options whose default depends on the variant."""

import pytest

from lightning_alrnn.datamodules.variants import variant_options

DEFAULTS = {"fixed": {"delay": 100}, "random": {"delay": 50, "extra": 7}, "none": {"size": 1}}


def test_given_options_replace_the_variants_defaults() -> None:
    assert variant_options("fixed", DEFAULTS, {"delay": None, "extra": None}) == {"delay": 100}
    assert variant_options("random", DEFAULTS, {"delay": 0, "extra": None}) == {"delay": 0, "extra": 7}
    assert DEFAULTS["random"] == {"delay": 50, "extra": 7}


def test_an_option_of_another_variant_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"delay is an option of variant 'fixed', 'random', got delay=0 with variant='none': leave it out, "
        r"or change the variant; 'none' has size$",
    ):
        variant_options("none", DEFAULTS, {"delay": 0})
